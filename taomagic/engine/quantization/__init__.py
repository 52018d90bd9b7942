"""Quantisation-aware training: a network learns with the rounding that an 8-bit device will do to it.

Weights and activations are rounded to 8-bit integers and back in each forward pass. :mod:`.fake_quantize` is the
arithmetic, :mod:`.layers` holds the layers that apply it, and :mod:`.placement` puts these into a network.
"""

from taomagic.engine.quantization.layers import (
    ActivationQuantizer,
    QuantizedConv2d,
    QuantizedConvTranspose2d,
)
from taomagic.engine.quantization.placement import (
    describe_quantization,
    quantize,
    quantizers,
    restart,
    share_scales,
    without_quantization,
)

__all__ = [
    "ActivationQuantizer",
    "QuantizedConv2d",
    "QuantizedConvTranspose2d",
    "describe_quantization",
    "quantize",
    "quantizers",
    "restart",
    "share_scales",
    "without_quantization",
]

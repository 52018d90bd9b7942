"""What quantisation-aware training costs: a step with and without it, and with PyTorch's own fake quantisation.

    python benchmarks/qat.py [--threads N] [--repeats N]

ResNet-18 at 300×300, at a quarter of its width and whole: forward and backward pass of random images. The networks take
turns, and the best time of each counts. The peer is the same network with PyTorch's own module for the activations,
``torch.ao.quantization.FusedMovingAvgObsFakeQuantize``.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace

import torch
from torch import nn
from torch.ao.quantization import FusedMovingAvgObsFakeQuantize, MovingAverageMinMaxObserver

from taomagic.engine.quantization import quantizers
from taomagic.engine.ssd.anchors import AnchorSettings
from taomagic.engine.ssd.model import SSD, Architecture

ANCHORS = AnchorSettings(
    aspect_ratios=((1.0, 2.0, 0.5, 3.0, 1 / 3),) * 6,
    scales=(0.05, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85),
    two_boxes_for_ar1=True,
    clip_boxes=False,
    variances=(0.1, 0.1, 0.2, 0.2),
)
#: Width multiplier and images a batch.
CASES = ((0.25, 16), (1.0, 8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"PyTorch {torch.__version__}, {arguments.threads} threads, best of {arguments.repeats}; ms a step")
    print(f"{'width':>6} {'batch':>6} {'float32':>9} {'QAT':>9} {'ratio':>6} {'PyTorch':>9} {'ratio':>6}")
    for width, batch in CASES:
        architecture = Architecture("resnet", 18, width, (3, 300, 300), ("car", "person"), ANCHORS)
        quantized = replace(architecture, quantized=True)
        networks = [SSD(architecture), SSD(quantized), with_modules_of_pytorch(SSD(quantized))]
        plain, ours, theirs = best_times(networks, batch, arguments.repeats)
        print(
            f"{width:>6} {batch:>6} {plain * 1e3:>9.0f} {ours * 1e3:>9.0f} {ours / plain:>6.2f} "
            f"{theirs * 1e3:>9.0f} {theirs / plain:>6.2f}"
        )


def with_modules_of_pytorch(model: SSD) -> SSD:
    """Replace the quantisers of activations."""
    for path in quantizers(model):
        module = FusedMovingAvgObsFakeQuantize(
            observer=MovingAverageMinMaxObserver,
            quant_min=-128,
            quant_max=127,
            dtype=torch.qint8,
            qscheme=torch.per_tensor_symmetric,
        )
        model.get_submodule("quantizers").add_module(path, module)
    return model


def best_times(networks: list[SSD], batch: int, repeats: int) -> list[float]:
    images = (torch.randn(batch, 3, 300, 300) * 60).contiguous(memory_format=torch.channels_last)
    placed: list[nn.Module] = [network.to(memory_format=torch.channels_last).train() for network in networks]
    best = [float("inf")] * len(placed)
    for repeat in range(repeats + 1):  # the first one warms up
        for index, network in enumerate(placed):
            start = time.perf_counter()
            scores, offsets = network(images)
            (scores.square().mean() + offsets.square().mean()).backward()
            seconds = time.perf_counter() - start
            if repeat:
                best[index] = min(best[index], seconds)
    return best


if __name__ == "__main__":
    main()

"""A network's weights by name."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

#: What the names of a backbone's tensors begin with, in every network.
BACKBONE = "backbone."
#: And those of the layers behind everything else, whose channels the classes decide.
HEADS = "heads."
_SHOWN = 6


def portable_state(model: nn.Module) -> dict[str, Tensor]:
    """Return a network's weights without PyTorch's batch counters, which nothing reads at a fixed momentum."""
    return {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def parameter_count(model: nn.Module) -> int:
    """Return the number of weights as Keras counts them: parameters and batch-norm statistics."""
    buffers = (b for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var")))
    return sum(p.numel() for p in model.parameters()) + sum(b.numel() for b in buffers)


def shortened(names: list[str], most: int = _SHOWN) -> str:
    """Return the first few names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def size_text(shape: Iterable[int]) -> str:
    """Return a shape as people write it: ``3×3``."""
    return "×".join(map(str, shape)) or "no size"

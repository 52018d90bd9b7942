"""Which filters stay: TAO's statistics, their combination across layers, and the rule of the count.

A filter's statistic is the L2 norm of its kernel; the bias doesn't count. Everything here is plain arithmetic on
vectors with one number a filter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

Normalizer = Literal["max", "L2"]
Equalization = Literal["union", "intersection", "arithmetic_mean", "geometric_mean"]
Statistics = npt.NDArray[np.float64]


def filter_norms(weight: Tensor) -> Statistics:
    """Return the L2 norm of each output filter.

    Parameters
    ----------
    weight
        [filters, ...] kernel of a convolution. A depthwise kernel [channels, 1, h, w] has one filter a channel.

    Returns
    -------
    numpy.ndarray
        [filters] float64.
    """
    return weight.detach().cpu().double().flatten(1).norm(dim=1).numpy()  # type: ignore[no-any-return]


def normalize(norms: Statistics, normalizer: Normalizer) -> Statistics:
    """Make the norms of different layers comparable, so that one threshold fits all.

    Parameters
    ----------
    norms
        [filters] from :func:`filter_norms`.
    normalizer
        ``"max"``: divide by the largest. ``"L2"``: divide by the L2 norm of the vector and multiply by the number
        of filters.
    """
    if normalizer == "max":
        scale = norms.max(initial=0.0)
    else:
        scale = float(np.linalg.norm(norms)) / max(1, len(norms))
    return norms / scale if scale > 0 else np.zeros_like(norms)


def combine(statistics: Sequence[Statistics], equalization: Equalization) -> Statistics:
    """Merge the statistics of layers that have to keep the same filters.

    Parameters
    ----------
    statistics
        One normalised vector [filters] for each layer.
    equalization
        ``"union"`` keeps what any layer wants (maximum), ``"intersection"`` what all want (minimum); the two means lie
        between.
    """
    stacked = np.stack(statistics)
    match equalization:
        case "union":
            merged = stacked.max(axis=0)
        case "intersection":
            merged = stacked.min(axis=0)
        case "arithmetic_mean":
            merged = stacked.mean(axis=0)
        case "geometric_mean":
            merged = stacked.prod(axis=0) ** (1 / len(stacked))
    return np.asarray(merged, dtype=np.float64)


def kept_filters(
    statistics: Statistics, *, threshold: float, granularity: int, min_filters: int
) -> npt.NDArray[np.int64]:
    """Return the indices of the filters that stay, ascending.

    The count is the number of statistics strictly above ``threshold``, raised to ``min_filters``, rounded up to a
    multiple of ``granularity``, and never more than there are. The strongest are taken; of equals, the first. One
    stays in any case: there are no layers without filters.

    Parameters
    ----------
    statistics
        [filters], normalised and combined.
    threshold
        ``-pth``.
    granularity
        ``-pg``.
    min_filters
        ``-nf``.
    """
    depth = len(statistics)
    count = max(int((statistics > threshold).sum()), min(min_filters, depth), 1)
    count = min(-(-count // granularity) * granularity, depth)
    strongest = np.argsort(-statistics, kind="stable")[:count]
    return np.sort(strongest).astype(np.int64)

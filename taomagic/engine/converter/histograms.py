"""How far a tensor's magnitudes reach, and where to cut them off for eight bits.

A scale for int8 maps magnitudes up to a limit to 127 steps. Taking the largest magnitude ever seen (min-max) spends
most of the steps on a few outliers; a lower limit clips those and is finer for the rest. TensorRT's entropy calibration
takes the limit at which the distribution of what is left differs least from the true one.

ONNX Runtime has calibration of its own (`onnxruntime.quantization.calibrate`). It keeps every activation of a call in
memory, and its entropy method compares 128 bins with 128 levels, which is min-max under another name. So histograms of
2,048 bins are collected here, one image at a time, in constant memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

Method = Literal["entropy", "minmax", "percentile"]
METHODS: Final[Sequence[Method]] = ("entropy", "minmax", "percentile")
#: Share of the magnitudes, in percent, that ``percentile`` keeps.
PERCENTILE: Final = 99.99
BINS: Final = 2048
#: Positive steps of a signed byte.
LEVELS: Final = 128
#: Bins between two candidates for the limit of the entropy method, in a first look at all and a second around the best.
_STRIDES: Final = (64, 8)


class Histogram:
    """Counts of a tensor's magnitudes in :data:`BINS` bins of equal width from zero on.

    The range doubles when something larger comes: neighbouring bins merge, and no count crosses the edge of a bin.
    """

    def __init__(self) -> None:
        self.counts: npt.NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.limit = 0.0  #: magnitude at the end of the last bin
        self.largest = 0.0  #: magnitude seen

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count a tensor's values.

        Raises
        ------
        ValueError
            One of them isn't finite.
        """
        magnitudes = np.abs(values.reshape(-1))
        if not magnitudes.size:
            return
        largest = float(magnitudes.max())
        if not np.isfinite(largest):
            raise ValueError("not finite")
        self.largest = max(self.largest, largest)
        if largest == 0.0:
            # Nothing but zeros says nothing about the width of the bins.
            self.counts[0] += magnitudes.size
            return
        if self.limit == 0.0:
            self.limit = largest
        while self.limit < largest:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2, np.int64)])
            self.limit *= 2
        # Twice as fast as NumPy's. The last bin ends behind the largest magnitude, which belongs to it.
        end = float(np.nextafter(np.float32(self.limit), np.float32(np.inf)))
        counted = cv2.calcHist([magnitudes.reshape(-1, 1)], [0], None, [BINS], [0.0, end])
        self.counts += counted.reshape(-1).astype(np.int64)

    def range(self, method: Method) -> float:
        """Return the magnitude that the largest step shall stand for; 0 where nothing but zeros was seen."""
        if method == "minmax" or self.limit == 0.0:
            return self.largest
        bins = _percentile_bins(self.counts) if method == "percentile" else _entropy_bins(self.counts)
        return min(self.largest, self.limit * bins / BINS)


def _percentile_bins(counts: npt.NDArray[np.int64]) -> int:
    cumulated = np.cumsum(counts)
    return int(np.searchsorted(cumulated, cumulated[-1] * (PERCENTILE / 100))) + 1


def _entropy_bins(counts: npt.NDArray[np.int64]) -> int:
    """Return how many bins to keep so that the Kullback-Leibler divergence of the quantised distribution is least.

    As TensorRT does it (S. Migacz, 8-bit Inference with TensorRT, GTC 2017): for each limit the reference has the
    outliers in its last bin, and the candidate spreads the count of each of 128 levels evenly over those of the level's
    bins that aren't empty. The first bin is full of the zeros behind ReLUs, which any scale gets right; it takes its
    neighbour's count.
    """
    hist = counts.astype(np.float64)
    hist[0] = hist[1]
    filled = np.flatnonzero(hist)
    if not filled.size:
        return BINS
    end = int(filled[-1]) + 1
    if end <= LEVELS:
        return end
    coarse, fine = _STRIDES
    best = _best(hist, (*range(LEVELS, end, coarse), end))
    return _best(hist, [*range(max(LEVELS, best - coarse), min(end, best + coarse), fine), best])


def _best(hist: npt.NDArray[np.float64], candidates: Sequence[int]) -> int:
    """Return which number of bins loses least."""
    present = hist > 0
    counted = present.astype(np.int64)
    total = hist.sum()
    losses = []
    for bins in candidates:
        kept = hist[:bins]
        starts = np.arange(LEVELS) * bins // LEVELS
        sizes = np.diff(starts, append=bins)
        levels = np.add.reduceat(kept, starts)
        used = np.add.reduceat(counted[:bins], starts)
        spread = np.repeat(np.divide(levels, used, out=np.zeros(LEVELS), where=used > 0), sizes)
        reference = kept.copy()
        reference[-1] += total - kept.sum()
        losses.append(_divergence(reference, np.where(present[:bins], spread, 0.0)))
    return candidates[int(np.argmin(losses))]


def _divergence(reference: npt.NDArray[np.float64], candidate: npt.NDArray[np.float64]) -> float:
    """Return KL(reference ‖ candidate) of two histograms; a bin that the candidate says is empty costs much."""
    # The last bin may hold nothing but outliers. A small share keeps the logarithm finite.
    share = np.maximum(candidate / max(candidate.sum(), 1e-30), 1e-9)
    wanted = reference / reference.sum()
    some = wanted > 0
    return float(np.sum(wanted[some] * np.log(wanted[some] / share[some])))

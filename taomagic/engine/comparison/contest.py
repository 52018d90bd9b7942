"""What is compared, and what is found out about it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from taomagic.engine.comparison.timing import in_turn
from taomagic.engine.data.images import Image
from taomagic.engine.evaluation.average_precision import Evaluation
from taomagic.engine.evaluation.matching import ImageDetections


@dataclass(frozen=True)
class Contender:
    """A model or an engine.

    Attributes
    ----------
    name
        Short, and its own in a comparison.
    shown_as
        Its path as the person wrote it.
    path
        Its file.
    kind
        ``"TAO model"``, ``"ONNX model"``, ``"INT8 engine"``.
    place
        What runs it where.
    precision
        ``fp32``, ``fp16``, ``int8``.
    parameters
        Number of weights.
    find
        Returns what it finds in each image of [N, C, H, W]: boxes in pixels of the input.
    score
        Returns its average precisions on the validation images.
    """

    name: str
    shown_as: str
    path: Path
    kind: str
    place: str
    precision: str
    parameters: int
    find: Callable[[Tensor], Sequence[ImageDetections]]
    score: Callable[[], Evaluation]


class Contest(Protocol):
    """What one network brings to a comparison."""

    #: Names of the classes with the ids 1, 2, …
    classes: tuple[str, ...]
    #: Least confidence of a box that is worth a look.
    least_score: float

    def open(self, path: Path, key: str, *, name: str, shown_as: str) -> Contender:
        """Open a model or an engine."""
        ...

    def images(self, count: int) -> Tensor:
        """Return validation images as the network sees them, [N, C, H, W]; fewer than ``count`` where there are."""
        ...

    def picture(self, seen: Tensor) -> Image:
        """Return an image that the network sees, [C, H, W], as a picture [H, W, 3] uint8 RGB."""
        ...


@dataclass
class Result:
    """What was found out about a contender.

    Attributes
    ----------
    contender
        Of which.
    mean
        Mean average precision, 0..1.
    average_precision
        By class.
    size_mb
        Of its file.
    latency_ms
        Median and 95th percentile of the time for one image, from the network's input to the objects.
    throughput
        Images a second by batch size.
    changed
        Boxes that it has and the reference doesn't, and the other way round, in the images looked at.
    """

    contender: Contender
    mean: float
    average_precision: dict[str, float]
    size_mb: float
    latency_ms: dict[str, float] = field(default_factory=dict)
    throughput: dict[int, float] = field(default_factory=dict)
    changed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        one = self.contender
        return {
            "name": one.name,
            "file": one.shown_as,
            "kind": one.kind,
            "place": one.place,
            "precision": one.precision,
            "parameters": one.parameters,
            "mAP": self.mean,
            "AP": self.average_precision,
            "size_mb": self.size_mb,
            "latency_ms": self.latency_ms,
            "images_per_second": {str(size): value for size, value in self.throughput.items()},
            "changed_boxes": self.changed,
        }


def short_names(paths: Sequence[str]) -> list[str]:
    """Return the files' names, with as many folders in front as tell them apart."""
    parts = [Path(path).parts for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return list(paths)


def scored(contender: Contender) -> Result:
    """Score a contender on the validation images."""
    evaluation = contender.score()
    return Result(
        contender,
        evaluation.mean_average_precision,
        {name: result.average_precision for name, result in evaluation.classes.items()},
        contender.path.stat().st_size / 2**20,
    )


def time_all(results: Sequence[Result], images: Tensor, batch_sizes: Sequence[int]) -> None:
    """Measure the contenders in turn, so that what else the machine does hits all of them alike.

    Parameters
    ----------
    results
        Latency and throughput are filled in.
    images
        [N, C, H, W]; repeated where a batch is larger.
    batch_sizes
        For the throughput.
    """
    for size in sorted({1, *batch_sizes}):
        index = np.resize(np.arange(len(images)), size)
        batch = images[index]
        times = in_turn([partial(result.contender.find, batch) for result in results])
        for result, seconds in zip(results, times, strict=True):
            median = statistics.median(seconds)
            if size == 1:
                tail = float(np.percentile(seconds, 95))
                result.latency_ms = {"median": 1000 * median, "p95": 1000 * tail}
            if size in batch_sizes:
                result.throughput[size] = size / median


def verdicts(results: Sequence[Result], max_drop: float) -> tuple[list[str], Result]:
    """Say in words what the figures mean.

    Parameters
    ----------
    results
        The first one is the reference.
    max_drop
        A loss of mAP above this is named, with what to try.

    Returns
    -------
    tuple of list of str, Result
        Sentences, and the one to use: the fastest that loses no more than that.
    """
    reference = results[0]
    words = []
    for result in results[1:]:
        drop = reference.mean - result.mean
        name = result.contender.name
        if drop > max_drop:
            words.append(
                f"{name}: mAP {result.mean:.3f} is {drop:.3f} below {reference.contender.name} "
                f"({reference.mean:.3f}), and {max_drop:g} is the bound. {_advice(result, reference)}"
            )
        slower = _slower(result, results)
        if slower is not None:
            words.append(slower)
    good = [result for result in results if reference.mean - result.mean <= max_drop]
    best = min(good, key=lambda result: result.latency_ms["median"])
    gain = reference.latency_ms["median"] / best.latency_ms["median"]
    if best is reference:
        words.append(f"Recommended: {best.contender.name}. Nothing here is faster and as precise.")
    else:
        words.append(
            f"Recommended: {best.contender.name}, {gain:.1f} × as fast as {reference.contender.name}, mAP "
            f"{best.mean - reference.mean:+.3f}, {best.size_mb:.1f} MB in place of {reference.size_mb:.1f}."
        )
    return words, best


def _advice(result: Result, reference: Result) -> str:
    worst = _worst_class(result.average_precision, reference.average_precision)
    if result.contender.precision == "int8":
        return (
            f"{worst} loses most. Try a calibration with more images (--batches), another --cal_method (percentile, "
            "minmax), or a training with enable_qat: true and --cal_json_file."
        )
    if result.contender.precision == "fp16":
        return f"{worst} loses most. Try fp32: some weights or activations are beyond what 16 bits hold."
    if result.contender.parameters < reference.contender.parameters:
        return (
            f"{worst} loses most. It has fewer weights than {reference.contender.name}: train it again after pruning, "
            "or prune less."
        )
    return f"{worst} loses most. Check that it was exported from this checkpoint, with the same spec."


def _worst_class(mine: Mapping[str, float], theirs: Mapping[str, float]) -> str:
    return max(mine, key=lambda name: theirs.get(name, 0.0) - mine[name])


def _slower(result: Result, results: Sequence[Result]) -> str | None:
    """Say so where int8 is no faster than fp32 of the same network and runtime, which is the rule for tiny ones."""
    if result.contender.precision != "int8":
        return None
    plain = [
        other
        for other in results
        if other.contender.precision == "fp32"
        and other.contender.place == result.contender.place
        and other.contender.parameters == result.contender.parameters
    ]
    if not plain:
        return None
    fastest = min(plain, key=lambda other: other.latency_ms["median"])
    mine, theirs = result.latency_ms["median"], fastest.latency_ms["median"]
    if mine < theirs:
        return None
    return (
        f"{result.contender.name} takes {mine:.1f} ms, {fastest.contender.name} {theirs:.1f} ms: this network is too "
        "small for int8 to be faster on this processor. Use fp32 here."
    )

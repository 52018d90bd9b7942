"""``deploy NETWORK compare``: checkpoints, exported models and engines side by side."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import cv2
from torch import Tensor

from taomagic.engine.comparison.contest import Contest, Result, scored, short_names, time_all, verdicts
from taomagic.engine.comparison.pictures import changes, shown, side_by_side
from taomagic.engine.console import say
from taomagic.engine.evaluation.matching import ImageDetections
from taomagic.engine.status import StatusLog
from taomagic.engine.storage.atomic import atomic_write
from taomagic.errors import UsageProblem
from taomagic.project.paths import PathMap

logger = logging.getLogger(__name__)

#: Validation images in which changed boxes are looked for.
_LOOKED_AT = 32


def run(
    args: argparse.Namespace,
    paths: PathMap,
    *,
    title: str,
    prepare: Callable[[argparse.Namespace, PathMap], Contest],
) -> None:
    """Carry out ``compare``.

    Parameters
    ----------
    args
        The parsed command.
    paths
        Container paths to host paths.
    title
        The network's name in messages.
    prepare
        Reads the spec, and returns what the network brings.
    """
    if len(args.models) < 2:
        raise UsageProblem(
            "one model is compared with nothing",
            where=f"{args.task} compare",
            hint="Give two or more: -m model.hdf5 fp32.engine int8.engine. The first one is the reference.",
        )
    files = [paths.to_host(model).resolve() for model in args.models]
    repeated = {model for model, file in zip(args.models, files, strict=True) if files.count(file) > 1}
    if repeated:
        raise UsageProblem(
            f"{', '.join(sorted(repeated))} is given more than once",
            where=f"{args.task} compare",
            hint="Name each model once.",
        )
    folder = paths.to_host(args.results_dir)
    status = StatusLog(folder)
    contest = prepare(args, paths)
    names = short_names(args.models)
    status.write("STARTED", f"Starting {title} comparison.")
    contenders = [
        contest.open(paths.to_host(model), args.key, name=name, shown_as=model)
        for model, name in zip(args.models, names, strict=True)
    ]
    results = []
    for contender in contenders:
        logger.info("%s: the %s on %s.", contender.shown_as, contender.kind, contender.place)
        results.append(scored(contender))
    images = contest.images(max(_LOOKED_AT, *args.batch_sizes))
    logger.info("Measuring times, in turn.")
    time_all(results, images, args.batch_sizes)
    words, best = verdicts(results, args.max_drop)
    picture, share = _changed_boxes(contest, results, images[:_LOOKED_AT], args.pictures)
    say()
    for line in table(results, contest.classes, args.batch_sizes):
        say(line)
    say()
    for sentence in words:
        say(sentence)
    content = _summary(args, results, words, best)
    with atomic_write(folder / "comparison.json") as file:
        file.write(json.dumps(content, indent=2, ensure_ascii=False).encode())
    say(f"Saved: {paths.to_container(folder / 'comparison.json')}")
    if picture is not None:
        with atomic_write(folder / "comparison.png") as file:
            file.write(picture)
        say(f"Saved: {paths.to_container(folder / 'comparison.png')}")
    status.write(
        "SUCCESS",
        "Comparison finished successfully.",
        categorical={
            "mAP": {result.contender.name: result.mean for result in results},
            "median latency (ms)": {result.contender.name: result.latency_ms["median"] for result in results},
            "size (MB)": {result.contender.name: result.size_mb for result in results},
        },
        graphical={"comparison": {**content, "first_image_share": share}},
    )


def table(results: Sequence[Result], classes: Sequence[str], batch_sizes: Sequence[int]) -> list[str]:
    """Return the lines of the table: a row for each contender."""
    head = ["model", "precision", "mAP", *(f"AP {name}" for name in classes), "MB", "ms", "p95 ms"]
    head += [f"img/s b{size}" for size in batch_sizes]
    rows = [head]
    for result in results:
        row = [result.contender.name, result.contender.precision, f"{result.mean:.3f}"]
        row += [f"{result.average_precision.get(name, 0.0):.3f}" for name in classes]
        row += [
            f"{result.size_mb:.1f}",
            f"{result.latency_ms['median']:.1f}",
            f"{result.latency_ms['p95']:.1f}",
        ]
        row += [f"{result.throughput[size]:.1f}" for size in batch_sizes]
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _changed_boxes(
    contest: Contest, results: Sequence[Result], images: Tensor, count: int
) -> tuple[bytes | None, float]:
    """Count the boxes that differ from the reference's, and return the images with most of them as a PNG.

    The number is the share of the picture's height that the first of them takes.
    """
    found: list[list[ImageDetections]] = []
    for result in results:
        detections: list[ImageDetections] = []
        for start in range(0, len(images), 8):
            detections += result.contender.find(images[start : start + 8])
        found.append([shown(each, contest.least_score) for each in detections])
    differing = [0] * len(images)
    for result, mine in zip(results[1:], found[1:], strict=True):
        each = [changes(here, there) for here, there in zip(mine, found[0], strict=True)]
        result.changed = sum(each)
        differing = [total + more for total, more in zip(differing, each, strict=True)]
    chosen = sorted(range(len(images)), key=lambda index: -differing[index])[:count]
    if not chosen:
        return None, 1.0
    drawn, share = side_by_side(
        [contest.picture(images[index]) for index in chosen],
        [[mine[index] for index in chosen] for mine in found],
        [result.contender.name for result in results],
        contest.classes,
    )
    _, data = cv2.imencode(".png", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    return bytes(data.tobytes()), share


def _summary(
    args: argparse.Namespace, results: Sequence[Result], words: Sequence[str], best: Result
) -> dict[str, Any]:
    """Return the content of ``comparison.json``; panels read the same from ``status.json``."""
    return {
        "reference": results[0].contender.name,
        "recommended": best.contender.name,
        "max_drop": args.max_drop,
        "models": [result.to_json() for result in results],
        "words": list(words),
    }

"""``prune``, for every network: cut the filters that do least, and store the smaller network."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from taomagic.engine.backbones.base import keras_name
from taomagic.engine.console import say
from taomagic.engine.pruning.prune import prune
from taomagic.engine.status import StatusLog
from taomagic.engine.storage.model_file import MODEL_SUFFIXES
from taomagic.engine.weights.files import model_from_file, save
from taomagic.engine.weights.kind import Description, Detector, Kind
from taomagic.engine.weights.state import parameter_count
from taomagic.errors import UsageProblem
from taomagic.project.paths import PathMap

logger = logging.getLogger(__name__)

A = TypeVar("A", bound=Description)
N = TypeVar("N", bound=Detector)


def run_prune(
    args: argparse.Namespace,
    paths: PathMap,
    kind: Kind[A, N],
    *,
    suffix: str,
    always_whole: Collection[str] = (),
) -> None:
    """Carry out ``prune``.

    Parameters
    ----------
    args
        The flags of :mod:`taomagic.spec.arguments`.
    paths
        Container paths to host paths.
    kind
        What the model must be. Its heads predict fixed numbers of values, so their outputs are never cut.
    suffix
        What a name without ``.tlt`` or ``.hdf5`` gets.
    always_whole
        Layers of NVIDIA's network that ours doesn't have, and that may be excluded all the same.

    Raises
    ------
    UsageProblem
        ``-o`` is no place for the pruned model, or ``-el`` names a layer that isn't there.
    ModelFileProblem
        ``-m`` can't be read, or is no such network.
    """
    target = _target(args, paths, suffix)
    status = StatusLog(paths.to_host(args.results_dir) if args.results_dir else None)
    model, _ = model_from_file(kind, paths.to_host(args.model), args.key, shown_as=args.model)
    status.write("STARTED", f"Starting {kind.title} pruning.")
    before = parameter_count(model)
    model.eval()
    report = prune(
        model,
        threshold=args.threshold,
        normalizer=args.normalizer,
        equalization=args.equalization_criterion,
        granularity=args.granularity,
        min_filters=args.min_filters,
        excluded=(*model.heads, *(name for name in args.excluded_layers if name not in always_whole)),
        layer_name=keras_name,
    )
    channels = {**model.architecture.channels, **report.channels}
    # Every architecture is a dataclass, which a protocol can't say.
    pruned = kind.build(replace(cast(Any, model.architecture), channels=channels))
    pruned.load_state_dict(report.state_dict, strict=False)
    after = parameter_count(pruned)
    for layer in report.layers:
        logger.debug("%-28s kept %d of %d filters", layer.name, layer.kept, layer.total)
    target.parent.mkdir(parents=True, exist_ok=True)
    save(target, pruned, args.key)
    ratio = after / before
    if not report.channels:
        logger.warning(
            "Nothing was pruned: no filter is at or below the threshold, or -nf, -pg and -el keep it."
        )
    elif args.normalizer == "max" and args.threshold >= 1:
        logger.warning(
            "No filter's norm is above %g times the largest: each layer keeps what -nf and -pg demand.",
            args.threshold,
        )
    logger.info("Parameters: %s before, %s after", f"{before:,}", f"{after:,}")
    say(f"Pruning ratio (pruned model / original model): {ratio}")
    say(f"Saved: {paths.to_container(target)}")
    status.write(
        "SUCCESS",
        "Pruning finished successfully.",
        kpi={"pruning_ratio": ratio, "size": target.stat().st_size / 2**20, "param_count": after / 1e6},
        categorical={
            "filters": {layer.name: layer.total for layer in report.layers},
            "filters_kept": {layer.name: layer.kept for layer in report.layers},
        },
    )


def _target(args: argparse.Namespace, paths: PathMap, suffix: str) -> Path:
    """Return where the pruned model goes."""
    target = paths.to_host(args.output)
    if target.suffix not in MODEL_SUFFIXES:
        target = target.with_name(target.name + suffix)
    if target.is_dir():
        raise UsageProblem(
            "-o names a folder, and it must name the file of the pruned model",
            where=args.output,
            hint=f"For example -o FOLDER/pruned{suffix}.",
        )
    source = paths.to_host(args.model)
    if target.exists() and source.exists() and target.samefile(source):
        raise UsageProblem(
            "-o is the model that shall be pruned, which would be lost",
            where=args.output,
            hint="Give the pruned model a name of its own.",
        )
    return target

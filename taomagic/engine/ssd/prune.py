"""``ssd prune``: cut the filters that do least, and store the smaller network."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

from taomagic.engine.backbones.base import keras_name
from taomagic.engine.console import say
from taomagic.engine.pruning.prune import prune
from taomagic.engine.ssd import weights
from taomagic.engine.ssd.model import LEVELS, SSD, parameter_count
from taomagic.engine.status import StatusLog
from taomagic.errors import UsageProblem
from taomagic.project.paths import PathMap

logger = logging.getLogger(__name__)

#: The heads predict fixed numbers of classes and offsets, so their outputs are never cut.
HEADS = tuple(f"ssd_{kind}_{level}" for kind in ("conf", "loc") for level in range(LEVELS))
#: What NVIDIA's network has behind its heads; excluding it is right, and nothing more to do.
PREDICTIONS = "ssd_predictions"


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``ssd prune``; the flags are those of :mod:`taomagic.spec.arguments`."""
    target = _target(args, paths)
    status = StatusLog(paths.to_host(args.results_dir) if args.results_dir else None)
    model, _ = weights.model_from_file(paths.to_host(args.model), args.key, shown_as=args.model)
    status.write("STARTED", "Starting SSD pruning.")
    before = parameter_count(model)
    model.eval()
    report = prune(
        model,
        threshold=args.threshold,
        normalizer=args.normalizer,
        equalization=args.equalization_criterion,
        granularity=args.granularity,
        min_filters=args.min_filters,
        excluded=(*HEADS, *(name for name in args.excluded_layers if name != PREDICTIONS)),
        layer_name=keras_name,
    )
    channels = {**model.architecture.channels, **report.channels}
    pruned = SSD(replace(model.architecture, channels=channels))
    pruned.load_state_dict(report.state_dict, strict=False)
    after = parameter_count(pruned)
    for layer in report.layers:
        logger.debug("%-28s kept %d of %d filters", layer.name, layer.kept, layer.total)
    target.parent.mkdir(parents=True, exist_ok=True)
    weights.save(target, pruned, args.key)
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


def _target(args: argparse.Namespace, paths: PathMap) -> Path:
    """Return where the pruned model goes; a name without a suffix gets the one that the key calls for."""
    target = paths.to_host(args.output)
    if target.suffix not in {".tlt", ".hdf5"}:
        target = target.with_name(target.name + (".tlt" if args.key else ".hdf5"))
    if target.is_dir():
        raise UsageProblem(
            "-o names a folder, and it must name the file of the pruned model",
            where=args.output,
            hint="For example -o FOLDER/pruned.tlt.",
        )
    source = paths.to_host(args.model)
    if target.exists() and source.exists() and target.samefile(source):
        raise UsageProblem(
            "-o is the model that shall be pruned, which would be lost",
            where=args.output,
            hint="Give the pruned model a name of its own.",
        )
    return target

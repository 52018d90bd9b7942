"""``ssd prune``."""

from __future__ import annotations

import argparse

from taomagic.engine.pruning.command import run_prune
from taomagic.engine.ssd.weights import KIND
from taomagic.project.paths import PathMap

#: What NVIDIA's network has behind its heads; excluding it is right, and nothing more to do.
PREDICTIONS = "ssd_predictions"


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``ssd prune``. A name without a suffix gets the one that the key calls for."""
    suffix = ".tlt" if args.key else ".hdf5"
    run_prune(args, paths, KIND, suffix=suffix, always_whole=(PREDICTIONS,))

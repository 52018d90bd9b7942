"""``detectnet_v2 prune``."""

from __future__ import annotations

import argparse

from taomagic.engine.detectnet_v2.weights import KIND
from taomagic.engine.pruning.command import run_prune
from taomagic.project.paths import PathMap


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``detectnet_v2 prune``. A name without a suffix gets ``.hdf5``, as in TAO 5."""
    run_prune(args, paths, KIND, suffix=".hdf5")

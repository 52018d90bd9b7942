"""``deploy detectnet_v2 gen_trt_engine``: an engine from an exported DetectNet_v2."""

from __future__ import annotations

import argparse

from taomagic.engine.converter import command
from taomagic.project.paths import PathMap
from taomagic.spec.detectnet_v2 import read_experiment


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``deploy detectnet_v2 gen_trt_engine``."""
    command.run(args, paths, task="detectnet_v2", title="DetectNet_v2", image_folders=image_folders)


def image_folders(args: argparse.Namespace, paths: PathMap) -> list[str]:
    """Return the folders of the spec's training images, from which NVIDIA's tool calibrates."""
    experiment = read_experiment(paths.to_host(args.spec), purpose="export", shown_as=args.spec)
    if experiment.dataset is None:
        return []
    return [source.image_directory_path for source in experiment.dataset.data_sources]

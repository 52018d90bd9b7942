"""``deploy ssd gen_trt_engine``: an engine from an exported SSD."""

from __future__ import annotations

import argparse

from taomagic.engine.converter import command
from taomagic.project.paths import PathMap
from taomagic.spec.ssd import read_experiment


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``deploy ssd gen_trt_engine``."""
    command.run(args, paths, task="ssd", title="SSD", image_folders=image_folders)


def image_folders(args: argparse.Namespace, paths: PathMap) -> list[str]:
    """Return the spec's training images, or those of validation where training has TFRecords only."""
    experiment = read_experiment(paths.to_host(args.spec), purpose="export", shown_as=args.spec)
    if experiment.dataset is None:
        return []
    for sources in (experiment.dataset.data_sources, experiment.dataset.validation_data_sources):
        folders = [source.image_directory_path for source in sources if source.image_directory_path]
        if folders:
            return folders
    return []

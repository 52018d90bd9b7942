"""``detectnet_v2 dataset_convert``: labels into TFRecords that name the images, which stay where they are."""

from __future__ import annotations

import argparse

from taomagic.engine.data.convert_command import run_conversion
from taomagic.engine.data.record_forms import LabelRecords
from taomagic.project.paths import PathMap


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``detectnet_v2 dataset_convert``."""
    run_conversion(args, paths, "detectnet_v2", lambda export: LabelRecords())  # noqa: ARG005 - it maps no classes

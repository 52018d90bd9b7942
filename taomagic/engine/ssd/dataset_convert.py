"""``ssd dataset_convert``: images and labels into TFRecords."""

from __future__ import annotations

import argparse
from functools import partial

from taomagic.engine.data.convert_command import run_conversion
from taomagic.engine.data.record_forms import PictureRecords
from taomagic.project.paths import PathMap


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``ssd dataset_convert``."""
    class_names = paths.to_host(args.class_names_file) if args.class_names_file else None
    run_conversion(args, paths, "ssd", partial(PictureRecords.of, class_names_file=class_names))

"""``ssd dataset_convert``: images and labels into TFRecords."""

from __future__ import annotations

import argparse
import logging

from taomagic.engine.console import say
from taomagic.engine.data.dataset_convert import convert
from taomagic.engine.status import StatusLog
from taomagic.project.paths import PathMap
from taomagic.spec.dataset_export import read_dataset_export

logger = logging.getLogger(__name__)


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``ssd dataset_convert``."""
    status = StatusLog(paths.to_host(args.results_dir) if args.results_dir else None)
    export = read_dataset_export(paths.to_host(args.spec), shown_as=args.spec)
    status.write("STARTED", "Starting Object Detection Dataset Convert.")
    class_names = paths.to_host(args.class_names_file) if args.class_names_file else None
    for note in export.notes:
        logger.warning("%s: %s", export.path, note)
    if args.validation_fold is not None and export.sample_modifier is None:
        logger.warning(
            "--validation_fold %d has no effect without sample_modifier_config; val_split decides",
            args.validation_fold,
        )
    report = convert(
        export,
        paths.to_host(args.output),
        paths=paths,
        class_names_file=class_names,
        validation_fold=args.validation_fold,
        verbose=args.verbose,
    )
    for path in report.files:
        say(f"Saved: {paths.to_container(path)}")
    status.write(
        "SUCCESS",
        "Dataset convert finished successfully.",
        kpi={"num_images": report.num_images},
        categorical={"num_objects": dict(report.num_objects)},
        graphical={"box_sizes": dict(report.box_sizes)},
    )

"""``dataset_convert`` of every network: read the export file, convert, record the outcome."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable

from taomagic.engine.console import say
from taomagic.engine.data.dataset_convert import convert
from taomagic.engine.data.record_forms import RecordForm
from taomagic.engine.status import StatusLog
from taomagic.project.paths import PathMap
from taomagic.spec.dataset_export import DatasetExport, Network, read_dataset_export

logger = logging.getLogger(__name__)


def run_conversion(
    args: argparse.Namespace,
    paths: PathMap,
    network: Network,
    form_of: Callable[[DatasetExport], RecordForm],
) -> None:
    """Carry out ``dataset_convert``.

    Parameters
    ----------
    args
        ``spec``, ``output``, ``results_dir``, ``validation_fold`` and ``verbose``.
    paths
        Container paths to host paths.
    network
        Whose export file it is.
    form_of
        What the records of that network say.
    """
    status = StatusLog(paths.to_host(args.results_dir) if args.results_dir else None)
    export = read_dataset_export(paths.to_host(args.spec), shown_as=args.spec, network=network)
    status.write("STARTED", "Starting Object Detection Dataset Convert.")
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
        form=form_of(export),
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

"""``deploy detectnet_v2 inference``: as ``detectnet_v2 inference``, with what `tao deploy` does otherwise."""

from __future__ import annotations

import argparse
import logging

from taomagic.engine.data.images import resize_bilinear_pillow
from taomagic.engine.detectnet_v2.inference import (
    GridMarker,
    check_against_spec,
    places_of,
    read_settings,
)
from taomagic.engine.detectnet_v2.predictor import ExportedPredictor
from taomagic.engine.device import choose_device
from taomagic.engine.inference.annotator import annotate_files
from taomagic.engine.inference.models import open_exported
from taomagic.engine.inference.predictor import announcement
from taomagic.engine.status import StatusLog
from taomagic.project.paths import PathMap

logger = logging.getLogger(__name__)


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out the command; the flags are those of :mod:`taomagic.spec.arguments_deploy`.

    Images are resized with Pillow's bilinear filter, and a confidence that equals the threshold is enough.
    """
    status = StatusLog(paths.to_host(args.results_dir))
    settings = read_settings(args, paths)
    outputs, files = places_of(args, paths, settings)
    choose_device(args.gpu_index)  # before an engine is opened on it
    model = open_exported(paths.to_host(args.model), args.key, task="detectnet_v2", shown_as=args.model)
    predictor = ExportedPredictor(model, args.model)
    check_against_spec(predictor, settings, args.model)
    status.write("STARTED", "Starting DetectNet_v2 inference.")
    logger.info("%s; images: %d.", announcement(predictor, args.batch_size), len(files))
    annotate_files(
        GridMarker(predictor, settings, resize=resize_bilinear_pillow, at_threshold=True),
        files,
        outputs,
        paths,
        batch_size=args.batch_size,
        at="that reach the confidence thresholds of the inference file",
        shown_as=args.image_dir,
    )
    status.write("SUCCESS", "Inference finished successfully.")

"""``deploy ssd inference``: as ``ssd inference``, with what `tao deploy` does otherwise."""

from __future__ import annotations

import argparse
import logging

import numpy as np

from taomagic.engine.data.images import Image, resize_bilinear_pillow
from taomagic.engine.device import choose_device
from taomagic.engine.inference.annotator import annotate_files
from taomagic.engine.inference.files import Outputs, find_images, refuse_shared_labels
from taomagic.engine.inference.marks import Marks, kitti_rows
from taomagic.engine.inference.predictor import announcement
from taomagic.engine.ssd.evaluate import check_against_spec, log_notes
from taomagic.engine.ssd.inference import SSDMarker
from taomagic.engine.ssd.postprocess import Detections
from taomagic.engine.ssd.predictor import open_exported_predictor
from taomagic.engine.status import StatusLog
from taomagic.project.paths import PathMap
from taomagic.spec.ssd import read_experiment

logger = logging.getLogger(__name__)


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out the command; the flags are those of :mod:`taomagic.spec.arguments_deploy`."""
    results_dir, source = paths.to_host(args.results_dir), paths.to_host(args.image_dir)
    outputs = Outputs(results_dir / "images_annotated", results_dir / "labels")
    outputs.refuse_originals(source, paths, where="deploy ssd inference", hint="Give another folder with -r.")
    status = StatusLog(results_dir)
    experiment = read_experiment(paths.to_host(args.spec), purpose="inference", shown_as=args.spec)
    log_notes(experiment, "augmentation_config")
    assert experiment.nms is not None  # required for this purpose, both
    assert experiment.augmentation is not None
    files = find_images(source, args.image_dir)
    refuse_shared_labels(files, args.image_dir, "Rename one of them.")
    choose_device(args.gpu_index)  # before an engine is opened on it
    predictor = open_exported_predictor(paths.to_host(args.model), args.key, experiment.nms, args.model)
    check_against_spec(predictor, experiment, args.model)
    status.write("STARTED", "Starting SSD inference.")
    logger.info(
        "%s; images: %d.",
        announcement(predictor, args.batch_size),
        len(files),
    )
    annotate_files(
        DeployedMarker(predictor, experiment.augmentation, args.threshold, resize=resize_bilinear_pillow),
        files,
        outputs,
        paths,
        batch_size=args.batch_size,
        at=f"at a confidence of {args.threshold:g} or more",
        shown_as=args.image_dir,
    )
    status.write("SUCCESS", "Inference finished successfully.")


class DeployedMarker(SSDMarker):
    """Boxes on whole pixels inside the image, and three decimals in the labels."""

    def mark(self, image: Image, found: Detections) -> Marks:
        """Return the objects of an image, on its own pixels."""
        marks = super().mark(image, found)
        height, width = image.shape[:2]
        limit = np.array([width, height, width, height], np.float32)
        return Marks(np.clip(np.rint(marks.boxes), 0, limit), marks.scores, marks.names, marks.colours)

    def list_rows(self, marks: Marks) -> str:
        """Return KITTI label rows with three decimals."""
        return kitti_rows(marks)

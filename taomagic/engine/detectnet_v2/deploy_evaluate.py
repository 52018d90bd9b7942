"""``deploy detectnet_v2 evaluate``: an engine's average precision, by the measure of `tao deploy`.

It isn't that of ``evaluate``: one overlap of 0.5 for all classes, the 11-point average precision, objects with an
occlusion above 0 need not be found, and there are no limits on sizes.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from functools import partial

import numpy as np
from torch import Tensor

from taomagic.engine.data.images import resize_bilinear_pillow
from taomagic.engine.detectnet_v2.clustering import Detections
from taomagic.engine.detectnet_v2.detector import Detector
from taomagic.engine.detectnet_v2.evaluate import frames_of_flags
from taomagic.engine.detectnet_v2.fitting import fitted
from taomagic.engine.detectnet_v2.inference import seen_of
from taomagic.engine.detectnet_v2.predictor import ExportedPredictor
from taomagic.engine.detectnet_v2.records import collect
from taomagic.engine.device import choose_device
from taomagic.engine.evaluation.deployed import Deployed, Sample, evaluate_deployed
from taomagic.engine.evaluation.matching import ImageDetections, on_whole_pixels
from taomagic.engine.inference.models import open_exported
from taomagic.engine.inference.predictor import announcement
from taomagic.engine.status import StatusLog
from taomagic.project.paths import PathMap
from taomagic.spec.arguments import evaluation_purpose
from taomagic.spec.detectnet_v2 import read_experiment

logger = logging.getLogger(__name__)

#: Least IoU of a hit.
OVERLAP = 0.5


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out the command; the flags are those of :mod:`taomagic.spec.arguments_deploy`."""
    results_dir = paths.to_host(args.results_dir)
    status = StatusLog(results_dir)
    purpose = evaluation_purpose(args)
    experiment = read_experiment(paths.to_host(args.spec), purpose=purpose, shown_as=args.spec)
    model_path = paths.to_host(args.model)
    choose_device(args.gpu_index)  # before an engine is opened on it
    model = open_exported(model_path, args.key, task="detectnet_v2", shown_as=args.model)
    predictor = ExportedPredictor(model, args.model)
    experiment = fitted(experiment, predictor.layout, args.model)
    assert experiment.dataset is not None  # required for this purpose
    frames = frames_of_flags(args, experiment, paths)
    if frames is None:
        frames = collect(experiment.dataset, experiment.classes, paths, validation=True)
    logger.info("%s; images: %d.", announcement(predictor, args.batch_size), len(frames.frames))
    # The thresholds as they are written: `tao deploy` doesn't exchange them.
    detector = Detector(predictor, experiment.clustering)

    def find(images: Tensor) -> list[ImageDetections]:
        return [
            in_one_list(found, predictor.classes, predictor.layout.size) for found in detector.detect(images)
        ]

    deployed = Deployed(
        see=partial(seen_of, shape=predictor.input_shape, resize=resize_bilinear_pillow),
        find=find,
        classes=predictor.classes,
        size=predictor.layout.size,
        parameters=predictor.parameters,
        path=model_path,
    )
    samples = [Sample(frame.decode, frame.objects) for frame in frames.frames]
    evaluate_deployed(
        deployed,
        samples,
        status,
        results_dir,
        title="DetectNet_v2",
        batch_size=args.batch_size,
        overlap=OVERLAP,
        mode="SAMPLE",
    )


def in_one_list(
    found: Mapping[str, Detections], classes: tuple[str, ...], size: tuple[int, int]
) -> ImageDetections:
    """Return an image's detections of all classes, with class ids from 1, on whole pixels."""
    parts = [found[name] for name in classes]
    return on_whole_pixels(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.confidence for part in parts]),
        np.concatenate([np.full(len(part.confidence), i, np.int64) for i, part in enumerate(parts, 1)]),
        size,
    )

"""``deploy ssd evaluate``: an engine's average precision, by the measure of `tao deploy`.

Overlap and kind of average precision are the spec's. It differs from ``evaluate`` in how images are resized, and in
leaving out those that don't fill a last batch.
"""

from __future__ import annotations

import argparse
import logging
from functools import partial

from torch import Tensor

from taomagic.engine.data.images import resize_bilinear_pillow
from taomagic.engine.data.loading import validation_images
from taomagic.engine.device import choose_device
from taomagic.engine.evaluation.deployed import Deployed, Sample, evaluate_deployed
from taomagic.engine.evaluation.matching import ImageDetections
from taomagic.engine.inference.predictor import announcement
from taomagic.engine.ssd.evaluate import check_against_spec, log_notes, with_overrides
from taomagic.engine.ssd.evaluation import on_pixels
from taomagic.engine.ssd.inference import seen_of
from taomagic.engine.ssd.predictor import open_exported_predictor
from taomagic.engine.status import StatusLog
from taomagic.project.paths import PathMap
from taomagic.spec.arguments import evaluation_purpose
from taomagic.spec.ssd import read_experiment

logger = logging.getLogger(__name__)


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out the command; the flags are those of :mod:`taomagic.spec.arguments_deploy`."""
    results_dir = paths.to_host(args.results_dir)
    status = StatusLog(results_dir)
    purpose = evaluation_purpose(args)
    experiment = read_experiment(paths.to_host(args.spec), purpose=purpose, shown_as=args.spec)
    log_notes(experiment, "dataset_config", "eval_config", "augmentation_config")
    experiment = with_overrides(experiment, args)
    evaluation, augmentation = experiment.evaluation, experiment.augmentation
    assert evaluation is not None  # required for this purpose, all three
    assert augmentation is not None
    assert experiment.nms is not None
    model_path = paths.to_host(args.model)
    choose_device(args.gpu_index)  # before an engine is opened on it
    predictor = open_exported_predictor(model_path, args.key, experiment.nms, args.model)
    check_against_spec(predictor, experiment, args.model)
    images = validation_images(experiment, paths)
    logger.info(
        "%s; images: %d.",
        announcement(predictor, args.batch_size),
        len(images.encoded),
    )

    def find(batch: Tensor) -> list[ImageDetections]:
        return [on_pixels(found, predictor.input_shape) for found in predictor.predict(batch)]

    deployed = Deployed(
        see=partial(
            seen_of, shape=predictor.input_shape, settings=augmentation, resize=resize_bilinear_pillow
        ),
        find=find,
        classes=predictor.classes,
        size=predictor.input_shape[1:],
        parameters=predictor.parameters,
        path=model_path,
    )
    samples = [Sample(partial(images.decode, index), labels) for index, labels in enumerate(images.labels)]
    evaluate_deployed(
        deployed,
        samples,
        status,
        results_dir,
        title="SSD",
        batch_size=args.batch_size,
        overlap=evaluation.matching_iou_threshold,
        mode=evaluation.average_precision_mode,
    )

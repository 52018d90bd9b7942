"""``detectnet_v2 evaluate``: average precision of a model, or an engine, on the validation data of the spec."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from taomagic.engine.console import say, timed
from taomagic.engine.converter.engine_file import is_engine
from taomagic.engine.detectnet_v2.detector import Detector
from taomagic.engine.detectnet_v2.evaluation import (
    GridEvaluation,
    evaluate_model,
    for_evaluation,
    print_report,
    status_parts,
)
from taomagic.engine.detectnet_v2.fitting import fitted
from taomagic.engine.detectnet_v2.folders import frames_of_folders
from taomagic.engine.detectnet_v2.loading import ValidationData
from taomagic.engine.detectnet_v2.objective import GridObjective
from taomagic.engine.detectnet_v2.predictor import open_predictor
from taomagic.engine.detectnet_v2.records import Frames
from taomagic.engine.device import choose_device
from taomagic.engine.evaluation.facts import median_ms, say_facts
from taomagic.engine.evaluation.pr_curve import curve_points
from taomagic.engine.inference.predictor import announcement
from taomagic.engine.status import StatusLog
from taomagic.errors import UsageProblem
from taomagic.project.paths import PathMap
from taomagic.spec.arguments import evaluation_purpose
from taomagic.spec.detectnet_v2 import read_experiment
from taomagic.spec.settings_detectnet_v2 import DetectNetExperiment

logger = logging.getLogger(__name__)

#: Blocks whose notes matter here.
_BLOCKS = (
    "dataset_config",
    "augmentation_config",
    "evaluation_config",
    "postprocessing_config",
    "objects of ",
)


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``detectnet_v2 evaluate``; the flags are those of :mod:`taomagic.spec.arguments_detectnet_v2`."""
    with timed(__name__):
        _run(args, paths)


def _run(args: argparse.Namespace, paths: PathMap) -> None:
    model_path = paths.to_host(args.model)
    results_dir = paths.to_host(args.results_dir) if args.results_dir else model_path.parent
    # Without -r the folder is the model's, which a misspelt path must not bring into being.
    status = StatusLog(results_dir if args.results_dir or results_dir.is_dir() else None)
    purpose = evaluation_purpose(args)
    experiment = read_experiment(paths.to_host(args.spec), purpose=purpose, shown_as=args.spec)
    for note in experiment.notes:
        if note.startswith(_BLOCKS):
            logger.info("%s: %s", experiment.path, note)
    check_framework(args.framework, model_path, args.model)
    device = choose_device(args.gpu_index)
    predictor = open_predictor(model_path, args.key, device, shown_as=args.model)
    experiment = fitted(experiment, predictor.layout, args.model)
    assert experiment.evaluation is not None  # required for this purpose
    if args.image_dir and args.use_training_set:
        raise UsageProblem(
            "-i and -l name other images than --use_training_set",
            where="detectnet_v2 evaluate",
            hint="Give one of the two.",
        )
    frames = frames_of_flags(args, experiment, paths)
    data = ValidationData(
        experiment, paths, training=args.use_training_set, frames=frames, on_gpu=device.is_cuda
    )
    batch_size = batch_size_of(experiment, args.batch_size)
    status.write("STARTED", "Starting DetectNet_v2 evaluation.")
    logger.info("%s; images: %d.", announcement(predictor, batch_size), len(data))
    detector = Detector(predictor, for_evaluation(experiment.clustering))
    objective = GridObjective(predictor.layout, experiment)
    result = evaluate_model(detector, data, experiment.evaluation, objective, batch_size)
    print_report(result, framed=not args.key or model_path.suffix.lower() == ".hdf5")
    _explain(result)
    image = next(iter(data.batches(1))).images
    say_facts(predictor.parameters, model_path, median_ms(lambda: detector.detect(image)))
    curves = {name: curve_points(each) for name, each in result.scores.classes.items()}
    status.write(
        "SUCCESS",
        "Evaluation metrics generated.",
        **status_parts(result),
        graphical={"precision_recall": curves},
    )
    say("Evaluation complete.")


def check_framework(framework: str, path: Path, shown_as: str) -> None:
    """Compare ``-f`` with what the model is.

    Raises
    ------
    UsageProblem
        It says ``tensorrt``, and the model is no engine; or the other way round.
    """
    if not path.is_file():  # opening it will say so
        return
    engine = is_engine(path)
    if engine and framework == "tlt":
        raise UsageProblem(
            f"{shown_as} is an engine, and -f tlt is for models that train, prune or export wrote",
            where="detectnet_v2 evaluate",
            hint="Add -f tensorrt.",
        )
    if not engine and framework == "tensorrt":
        raise UsageProblem(
            f"{shown_as} is no engine, and -f tensorrt is for engines",
            where="detectnet_v2 evaluate",
            hint="Drop -f tensorrt, or give the engine that gen_trt_engine or converter wrote.",
        )


def batch_size_of(experiment: DetectNetExperiment, given: int | None) -> int:
    """Return the images a step: ``-b``, or as in training; 1 where the spec has no ``training_config``."""
    if given:
        return given
    return experiment.training.batch_size_per_gpu if experiment.training is not None else 1


def frames_of_flags(
    args: argparse.Namespace, experiment: DetectNetExperiment, paths: PathMap
) -> Frames | None:
    """Return the images that ``-i`` and ``-l`` name; ``None`` where they aren't given.

    Raises
    ------
    UsageProblem
        Only one of them is given.
    DataProblem
        See :func:`~taomagic.engine.detectnet_v2.folders.frames_of_folders`.
    """
    if bool(args.image_dir) != bool(args.label_dir):
        raise UsageProblem(
            "-i and -l go together: images and their labels",
            where="detectnet_v2 evaluate",
            hint="Give both, or neither to use the validation data of the spec.",
        )
    if not args.image_dir:
        return None
    assert experiment.dataset is not None  # required for evaluate
    return frames_of_folders(args.image_dir, args.label_dir, experiment.dataset, experiment.classes, paths)


def _explain(result: GridEvaluation) -> None:
    """Tell what a person might miss in the table: classes that can only be zero."""
    for name, each in result.scores.classes.items():
        if not each.objects:
            logger.warning(
                "No %s within the sizes of evaluation_box_config is there to be found; its AP counts as 0.",
                name,
            )

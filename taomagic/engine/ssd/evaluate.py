"""``ssd evaluate``: average precision of a model on the validation data of the spec."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from taomagic.engine.console import say
from taomagic.engine.data.images import mean_of
from taomagic.engine.data.loading import ValidationData
from taomagic.engine.device import choose_device
from taomagic.engine.evaluation.average_precision import Evaluation
from taomagic.engine.evaluation.facts import median_ms, say_facts
from taomagic.engine.evaluation.pr_curve import write_pr_curve
from taomagic.engine.evaluation.report import explain, print_table, record_scores
from taomagic.engine.inference.predictor import announcement
from taomagic.engine.ssd.evaluation import evaluate_model
from taomagic.engine.ssd.predictor import Predictor, load_predictor
from taomagic.engine.status import StatusLog
from taomagic.errors import EnvironmentProblem, ModelFileProblem, UsageProblem
from taomagic.project.paths import PathMap
from taomagic.spec.arguments import evaluation_purpose
from taomagic.spec.ssd import DataSource, SSDExperiment, read_experiment

logger = logging.getLogger(__name__)


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``ssd evaluate``."""
    model_path = paths.to_host(args.model)
    results_dir = paths.to_host(args.results_dir) if args.results_dir else model_path.parent
    # Without -r the folder is the model's, which a misspelt path must not bring into being.
    status = StatusLog(results_dir if args.results_dir or results_dir.is_dir() else None)
    purpose = evaluation_purpose(args)
    experiment = read_experiment(paths.to_host(args.spec), purpose=purpose, shown_as=args.spec)
    log_notes(experiment, "dataset_config", "eval_config", "nms_config", "augmentation_config")
    experiment = with_overrides(experiment, args)
    assert experiment.evaluation is not None
    assert experiment.nms is not None
    device = choose_device(args.gpu_index)
    predictor = load_predictor(model_path, args.key, device, experiment.nms, shown_as=args.model)
    check_against_spec(predictor, experiment, args.model)
    status.write("STARTED", "Starting SSD evaluation.")
    logger.info("%s.", announcement(predictor, experiment.evaluation.batch_size))
    data = ValidationData(experiment, paths, on_gpu=device.is_cuda)
    evaluation, truths, _ = evaluate_model(predictor, data, experiment.evaluation)
    print_table(evaluation, digits=3)
    explain(evaluation, truths)
    image = next(iter(data.batches(1))).images
    say_facts(predictor.parameters, model_path, median_ms(lambda: predictor.predict(image)))
    if experiment.evaluation.visualize_pr_curve:
        _save_pr_curve(evaluation, model_path.parent, results_dir, paths)
    record_scores(status, evaluation)


def log_notes(experiment: SSDExperiment, *blocks: str) -> None:
    """Log what a reader of the spec should know about the blocks that a command uses: fields without effect, say."""
    for note in experiment.notes:
        if note.startswith(blocks):
            logger.info("%s: %s", experiment.path, note)


def _save_pr_curve(evaluation: Evaluation, model_dir: Path, results_dir: Path, paths: PathMap) -> None:
    """Draw the curves into the results folder, and beside the model, where TAO puts them whatever ``-r`` says."""
    target = results_dir / "PR_curve.png"
    write_pr_curve(target, evaluation)
    say(f"Saved: {paths.to_container(target)}")
    if model_dir.resolve() == results_dir.resolve():
        return
    target = model_dir / "PR_curve.png"
    try:
        write_pr_curve(target, evaluation)
    except EnvironmentProblem as problem:  # a model may well lie where only its owner writes
        logger.warning("%s: %s", paths.to_container(target), problem.message)
    else:
        say(f"Saved: {paths.to_container(target)}")


def with_overrides(experiment: SSDExperiment, args: argparse.Namespace) -> SSDExperiment:
    """Let ``-i`` with ``-l`` (the validation data) and ``-b`` (the batch size) win over the spec.

    Raises
    ------
    UsageProblem
        If only one of ``-i`` and ``-l`` is given.
    """
    dataset, evaluation = experiment.dataset, experiment.evaluation
    assert dataset is not None
    assert evaluation is not None
    if bool(args.image_dir) != bool(args.label_dir):
        raise UsageProblem(
            "-i and -l go together: images and their labels",
            where="ssd evaluate",
            hint="Give both, or neither to use validation_data_sources of the spec.",
        )
    if args.image_dir:
        source = DataSource(
            tfrecords_path=None, label_directory_path=args.label_dir, image_directory_path=args.image_dir
        )
        experiment = replace(experiment, dataset=replace(dataset, validation_data_sources=(source,)))
    if args.batch_size:
        experiment = replace(experiment, evaluation=replace(evaluation, batch_size=args.batch_size))
    return experiment


def check_against_spec(predictor: Predictor, experiment: SSDExperiment, shown_as: str) -> None:
    """Make sure that model and spec speak of the same input and classes.

    Raises
    ------
    ModelFileProblem
        With both values, because a wrong class order would only show as a bad score.
    """
    augmentation, dataset = experiment.augmentation, experiment.dataset
    assert augmentation is not None
    assert dataset is not None
    wanted_shape = (augmentation.output_channel, augmentation.output_height, augmentation.output_width)
    mean = mean_of(augmentation)
    if predictor.mean is not None and not np.allclose(predictor.mean, mean):
        logger.warning(
            "%s was exported for images minus %s; the spec's mean %s is used.", shown_as, predictor.mean, mean
        )
    for what, stored, wanted in (
        ("classes", predictor.classes, dataset.classes),
        ("input (channels, height, width)", predictor.input_shape, wanted_shape),
    ):
        if tuple(stored) != tuple(wanted):
            raise ModelFileProblem(
                f"the model's {what} {tuple(stored)} and the spec's {tuple(wanted)} differ",
                where=shown_as,
                hint="Use the spec that the model was trained with.",
            )

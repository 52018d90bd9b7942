"""From ``training_config`` to :class:`~taomagic.spec.settings_detectnet_v2.DetectNetTrainingSettings`."""

from __future__ import annotations

from typing import Any, Literal, cast

from taomagic.spec import detectnet_v2_pb2, ssd_pb2
from taomagic.spec._resolve_trackers import resolve_clearml, resolve_wandb
from taomagic.spec._resolve_training import cost_scaling, learning_rates, soft_start_and_annealing
from taomagic.spec.parse import SpecFile
from taomagic.spec.settings import OptimizerSettings
from taomagic.spec.settings_detectnet_v2 import (
    DetectNetTrainingSettings,
    DetectNetVisualizerSettings,
    EarlyStoppingScheduleSettings,
    SoftStartSettings,
)
from taomagic.spec.validate import as_written, broken, missing

_Spec = SpecFile[detectnet_v2_pb2.Experiment]

_FIELD = "training_config"


def resolve_training(spec: _Spec, classes: tuple[str, ...], notes: list[str]) -> DetectNetTrainingSettings:
    """Return the training's settings. Ranges of single numbers have been checked; notes are appended."""
    config = spec.message.training_config
    kind = ssd_pb2.RegularizerConfig.RegularizationType.Name(config.regularizer.type)
    return DetectNetTrainingSettings(
        batch_size_per_gpu=config.batch_size_per_gpu,
        num_epochs=config.num_epochs,
        schedule=_schedule(spec),
        regularizer=cast(Literal["NO_REG", "L1", "L2"], kind),
        regularizer_weight=0.0 if kind == "NO_REG" else as_written(config.regularizer.weight),
        optimizer=_optimizer(spec),
        cost_scaling=cost_scaling(config.cost_scaling) if config.cost_scaling.enabled else None,
        checkpoint_interval=config.checkpoint_interval or 10,
        enable_qat=config.enable_qat,
        visualizer=_visualizer(spec, classes, notes) if config.HasField("visualizer") else None,
    )


def _schedule(spec: _Spec) -> SoftStartSettings | EarlyStoppingScheduleSettings:
    config = spec.message.training_config
    name = config.learning_rate.WhichOneof("learning_rate")
    if name is None:
        hint = "It holds min_learning_rate, max_learning_rate, soft_start and annealing."
        raise missing(spec, f"{_FIELD}.learning_rate.soft_start_annealing_schedule", hint=hint)
    field = f"{_FIELD}.learning_rate.{name}"
    schedule: Any = getattr(config.learning_rate, name)
    low, high = learning_rates(spec, field, schedule)
    if name == "soft_start_annealing_schedule":
        return SoftStartSettings(low, high, *soft_start_and_annealing(spec, field, schedule))
    period = spec.message.evaluation_config.validation_period_during_training
    if not period <= schedule.patience_steps <= config.num_epochs:
        allowed = f">= validation_period_during_training ({period}) and <= num_epochs ({config.num_epochs})"
        raise broken(spec, f"{field}.patience_steps", schedule.patience_steps, allowed)
    split = spec.message.dataset_config.WhichOneof("dataset_split_type")
    if split is None:
        hint = "Add validation_fold: 0 to dataset_config, or use soft_start_annealing_schedule."
        raise spec.problem(
            "this schedule watches the validation cost and needs validation data", field=field, hint=hint
        )
    return EarlyStoppingScheduleSettings(
        low, high, schedule.soft_start_epochs, schedule.annealing_epochs, schedule.patience_steps
    )


def _optimizer(spec: _Spec) -> OptimizerSettings:
    config = spec.message.training_config.optimizer
    chosen = config.WhichOneof("optimizer")
    if chosen != "adam":
        field = f"{_FIELD}.optimizer.{chosen}" if chosen else f"{_FIELD}.optimizer"
        hint = "For example optimizer { adam { epsilon: 1e-8 beta1: 0.9 beta2: 0.999 } }"
        raise spec.problem(
            "DetectNet_v2 trains with adam only, in NVIDIA's containers too", field=field, hint=hint
        )
    adam = config.adam
    parameters: dict[str, float | bool] = {
        name: as_written(getattr(adam, name)) for name in ("epsilon", "beta1", "beta2")
    }
    return OptimizerSettings("adam", {**parameters, "amsgrad": adam.amsgrad})


def _visualizer(spec: _Spec, classes: tuple[str, ...], notes: list[str]) -> DetectNetVisualizerSettings:
    config = spec.message.training_config.visualizer
    field = f"{_FIELD}.visualizer"
    epochs = spec.message.training_config.num_epochs
    often = config.infrequent_logging_frequency or 1
    if often > epochs:
        raise broken(spec, f"{field}.infrequent_logging_frequency", often, f"<= num_epochs ({epochs})")
    thresholds = {}
    for key, value in sorted(config.target_class_config.items()):
        if key.lower() in classes:
            thresholds[key.lower()] = as_written(value.coverage_threshold)
        else:
            notes.append(
                f"{field}.target_class_config has {key!r}, which is no class of cost_function_config"
            )
    return DetectNetVisualizerSettings(
        enabled=config.enabled,
        num_images=config.num_images if config.HasField("num_images") else 3,
        scalar_logging_frequency=config.scalar_logging_frequency or None,
        infrequent_logging_frequency=often,
        coverage_thresholds=thresholds,
        wandb=resolve_wandb(config.wandb_config, notes) if config.HasField("wandb_config") else None,
        clearml=resolve_clearml(spec),
    )

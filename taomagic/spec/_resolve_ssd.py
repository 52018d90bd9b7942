"""From the text of an experiment file to :class:`~taomagic.spec.settings.SSDExperiment`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, Literal, cast

from google.protobuf.message import Message

from taomagic.spec import ssd_pb2
from taomagic.spec._resolve_dataset import resolve_dataset
from taomagic.spec._resolve_model import resolve_model
from taomagic.spec._resolve_trackers import resolve_clearml, resolve_wandb, without_secrets
from taomagic.spec._resolve_training import cost_scaling, learning_rates, soft_start_and_annealing
from taomagic.spec.parse import SpecFile, read_spec
from taomagic.spec.settings import (
    AugmentationSettings,
    CostScalingSettings,
    DatasetSettings,
    EarlyStoppingSettings,
    EvaluationSettings,
    LoadModelSettings,
    NMSSettings,
    OptimizerSettings,
    Purpose,
    SSDExperiment,
    TrainingSettings,
    VisualizerSettings,
)
from taomagic.spec.validate import as_written, broken, check_ranges, missing, number, refuse_unsupported

_Spec = SpecFile[ssd_pb2.Experiment]

_REQUIRED: Final[Mapping[Purpose, tuple[str, ...]]] = {
    "train": (
        "ssd_config",
        "training_config",
        "eval_config",
        "nms_config",
        "augmentation_config",
        "dataset_config",
    ),
    "evaluate": ("ssd_config", "eval_config", "nms_config", "augmentation_config", "dataset_config"),
    "judge": ("ssd_config", "eval_config", "nms_config", "augmentation_config", "dataset_config"),
    "inference": ("ssd_config", "eval_config", "nms_config", "augmentation_config", "dataset_config"),
    "export": ("ssd_config", "nms_config"),
}

#: Fields that NVIDIA's SSD reads and doesn't use, and neither does the embedded engine.
_WITHOUT_EFFECT: Final[Mapping[str, str]] = {
    "nms_config.force_on_cpu": "",
    "dataset_config.type": "",
}

#: Augmentation that has a documented default, and is off in NVIDIA's 5.x containers if nothing is written.
_OFF_IN_CONTAINERS: Final = ("brightness", "contrast", "saturation", "hue", "random_flip")

#: What TensorRT's plugin can sort by.
_MOST_SCORE_BITS: Final = 10

#: Keras' values, which NVIDIA's optimizers start from.
_OPTIMIZER_DEFAULTS: Final[Mapping[str, Mapping[str, float | bool]]] = {
    "sgd": {"momentum": 0.9, "nesterov": False},
    "adam": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7, "amsgrad": False},
    "rmsprop": {"rho": 0.9, "momentum": 0.0, "epsilon": 1e-7, "centered": False},
}


def resolve_experiment(path: Path, *, purpose: Purpose, shown_as: str | None = None) -> SSDExperiment:
    """Read, check and resolve an experiment file; see :func:`taomagic.spec.ssd.read_experiment`."""
    spec = read_spec(path, ssd_pb2.Experiment, shown_as=shown_as)
    refuse_unsupported(spec)
    present = {descriptor.name for descriptor, _ in spec.message.ListFields()}
    for block in _REQUIRED[purpose]:
        if block not in present:
            raise missing(spec, block, hint=f"{purpose} needs the block {block} {{ … }}.")
    check_ranges(spec)
    notes = [
        f"{field} has no effect{f'; {reason}' if reason else ''}"
        for field, reason in _WITHOUT_EFFECT.items()
        if spec.line_of(field) is not None
    ]
    model = resolve_model(spec, notes)
    training = _training(spec, notes) if "training_config" in present else None
    evaluation = _evaluation(spec.message.eval_config) if "eval_config" in present else None
    dataset = resolve_dataset(spec, purpose, notes) if "dataset_config" in present else None
    if purpose == "train":
        _check_early_stopping(spec, training, evaluation, dataset)
        _note_unset_augmentation(spec, notes)
    return SSDExperiment(
        path=spec.path,
        text=without_secrets(spec),
        random_seed=spec.message.random_seed,
        model=model,
        training=training,
        evaluation=evaluation,
        nms=_nms(spec, notes) if "nms_config" in present else None,
        augmentation=_augmentation(spec) if "augmentation_config" in present else None,
        dataset=dataset,
        notes=tuple(notes),
    )


def _training(spec: _Spec, notes: list[str]) -> TrainingSettings:
    config = spec.message.training_config
    for field in ("learning_rate", "regularizer"):
        if not config.HasField(field):
            raise missing(spec, f"training_config.{field}", hint=f"training_config needs {field} {{ … }}.")
    name = "training_config.learning_rate.soft_start_annealing_schedule"
    if not config.learning_rate.HasField("soft_start_annealing_schedule"):
        raise missing(
            spec, name, hint="It holds min_learning_rate, max_learning_rate, soft_start and annealing."
        )
    schedule = config.learning_rate.soft_start_annealing_schedule
    low, high = learning_rates(spec, name, schedule)
    soft_start, annealing = soft_start_and_annealing(spec, name, schedule)
    regularizer, weight = _regularizer(spec)
    if config.HasField("optimizer"):
        notes.append(
            "training_config.optimizer is used here; NVIDIA's SSD always trains with SGD, momentum 0.9"
        )
    return TrainingSettings(
        batch_size_per_gpu=config.batch_size_per_gpu,
        num_epochs=config.num_epochs,
        min_learning_rate=low,
        max_learning_rate=high,
        soft_start=soft_start,
        annealing=annealing,
        regularizer=regularizer,
        regularizer_weight=weight,
        optimizer=_optimizer(spec),
        checkpoint_interval=config.checkpoint_interval or 1,
        early_stopping=_early_stopping(config.early_stopping) if config.HasField("early_stopping") else None,
        visualizer=_visualizer(spec, notes) if config.HasField("visualizer") else None,
        max_queue_size=config.max_queue_size or 20,
        n_workers=config.n_workers or None,
        use_multiprocessing=config.use_multiprocessing,
        enable_qat=config.enable_qat,
        cost_scaling=_cost_scaling(config.cost_scaling, notes),
        model_ema=config.model_ema,
        load_model=_load_model(config, notes),
    )


def _cost_scaling(config: ssd_pb2.CostScalingConfig, notes: list[str]) -> CostScalingSettings | None:
    if not config.enabled:
        _note_not_enabled(config, "training_config.cost_scaling", notes)
        return None
    notes.append(
        "training_config.cost_scaling scales the loss of mixed precision; without --use_amp it has nothing to do"
    )
    return cost_scaling(config)


def _note_not_enabled(
    config: Message, field: str, notes: list[str], *, apart_from: Collection[str] = ()
) -> None:
    """Say that a block is off because it doesn't say that it is on; one that says false is meant to be off."""
    written = {descriptor.name for descriptor, _ in config.ListFields()} - set(apart_from)
    if written and "enabled" not in written:
        notes.append(f"{field} has no effect: it doesn't say enabled: true")


def _load_model(config: ssd_pb2.TrainingConfig, notes: list[str]) -> LoadModelSettings | None:
    field = config.WhichOneof("load_model")
    path = getattr(config, field) if field is not None else ""
    if field is None or not path:
        return None
    notes.append(f"training_config.{field} is used here unless -m names a model; NVIDIA's SSD reads -m only")
    kind = cast(Literal["resume", "pretrain", "pruned"], field.removesuffix("_model_path"))
    return LoadModelSettings(kind, path)


def _regularizer(spec: _Spec) -> tuple[Literal["NO_REG", "L1", "L2"], float]:
    config = spec.message.training_config.regularizer
    kind = cast(Literal["NO_REG", "L1", "L2"], ssd_pb2.RegularizerConfig.RegularizationType.Name(config.type))
    if kind == "NO_REG":
        return kind, 0.0
    field = "training_config.regularizer.weight"
    if not config.HasField("weight"):
        raise missing(spec, field, hint=f"{kind} needs a weight > 0 and < 1; for example weight: 3e-5")
    weight = as_written(config.weight)
    if not 0 < weight < 1:
        hint = "For example weight: 3e-5; for no regularisation give type: NO_REG."
        raise broken(spec, field, weight, f"> 0 and < 1 with {kind}", hint=hint)
    return kind, weight


def _optimizer(spec: _Spec) -> OptimizerSettings:
    config = spec.message.training_config.optimizer
    name = config.WhichOneof("optimizer") or "sgd"
    parameters = dict(_OPTIMIZER_DEFAULTS[name])
    for descriptor, value in getattr(config, name).ListFields():
        parameters[descriptor.name] = value if isinstance(value, bool) else as_written(value)
    if name == "sgd" and parameters["nesterov"] and not parameters["momentum"]:
        field = "training_config.optimizer.sgd.momentum"
        raise broken(spec, field, parameters["momentum"], "> 0 with nesterov: true")
    return OptimizerSettings(cast(Literal["sgd", "adam", "rmsprop"], name), parameters)


def _early_stopping(config: ssd_pb2.EarlyStoppingConfig) -> EarlyStoppingSettings:
    monitor = config.monitor if config.HasField("monitor") else "loss"
    return EarlyStoppingSettings(
        monitor="loss" if monitor == "loss" else "validation_loss",
        min_delta=as_written(config.min_delta),
        patience=config.patience,
    )


def _check_early_stopping(
    spec: _Spec,
    training: TrainingSettings | None,
    evaluation: EvaluationSettings | None,
    dataset: DatasetSettings | None,
) -> None:
    """Raise SpecProblem if the training is to watch a loss that is not computed after every epoch."""
    if training is None or training.early_stopping is None or training.early_stopping.monitor == "loss":
        return
    field = "training_config.early_stopping.monitor"
    if dataset is None or not dataset.validation_data_sources:
        hint = 'Add validation_data_sources to dataset_config, or monitor: "loss".'
        raise spec.problem(
            "early stopping on the validation loss needs validation data", field=field, hint=hint
        )
    if evaluation is None or evaluation.validation_period != 1:
        hint = 'Set validation_period_during_training: 1 in eval_config, or monitor: "loss".'
        raise spec.problem(
            "early stopping on the validation loss needs it every epoch", field=field, hint=hint
        )


def _visualizer(spec: _Spec, notes: list[str]) -> VisualizerSettings:
    config = spec.message.training_config.visualizer
    field = "training_config.visualizer"
    _note_not_enabled(config, field, notes, apart_from=("wandb_config", "clearml_config"))
    _note_not_enabled(config.wandb_config, f"{field}.wandb_config", notes)
    return VisualizerSettings(
        enabled=config.enabled,
        num_images=config.num_images if config.HasField("num_images") else 3,
        weight_histograms=config.weight_histograms,
        wandb=resolve_wandb(config.wandb_config, notes),
        clearml=resolve_clearml(spec),
    )


def _evaluation(config: ssd_pb2.EvalConfig) -> EvaluationSettings:
    mode = ssd_pb2.EvalConfig.AveragePrecisionMode.Name(config.average_precision_mode)
    return EvaluationSettings(
        validation_period=config.validation_period_during_training,
        average_precision_mode=cast(Literal["SAMPLE", "INTEGRATE"], mode),
        batch_size=config.batch_size,
        matching_iou_threshold=as_written(config.matching_iou_threshold),
        visualize_pr_curve=config.visualize_pr_curve,
    )


def _nms(spec: _Spec, notes: list[str]) -> NMSSettings:
    config = spec.message.nms_config
    threshold, alias = config.clustering_iou_threshold, config.cluster_iou_threshold
    if config.HasField("cluster_iou_threshold"):
        if config.HasField("clustering_iou_threshold") and threshold != alias:
            hint = "They are two names of one field; keep clustering_iou_threshold."
            allowed = f"the same as clustering_iou_threshold ({as_written(threshold):g})"
            raise broken(spec, "nms_config.cluster_iou_threshold", as_written(alias), allowed, hint=hint)
        notes.append(
            "nms_config.cluster_iou_threshold: NVIDIA's containers know clustering_iou_threshold only"
        )
        threshold = alias
    return NMSSettings(
        confidence_threshold=as_written(config.confidence_threshold),
        clustering_iou_threshold=as_written(threshold),
        top_k=config.top_k,
        infer_nms_score_bits=_score_bits(config.infer_nms_score_bits, notes),
    )


def _score_bits(bits: int, notes: list[str]) -> int:
    if bits > _MOST_SCORE_BITS:
        notes.append(
            f"nms_config.infer_nms_score_bits: {bits} is not in 1 to {_MOST_SCORE_BITS}, so NMS compares full scores, "
            "as in NVIDIA's containers"
        )
        return 0
    return bits


def _augmentation(spec: _Spec) -> AugmentationSettings:
    config = spec.message.augmentation_config
    settings = AugmentationSettings(
        output_width=config.output_width,
        output_height=config.output_height,
        output_channel=config.output_channel,
        random_crop_min_scale=number(config, "random_crop_min_scale", 0.3),
        random_crop_max_scale=number(config, "random_crop_max_scale", 1.0),
        random_crop_min_ar=number(config, "random_crop_min_ar", 0.5),
        random_crop_max_ar=number(config, "random_crop_max_ar", 2.0),
        zoom_out_min_scale=number(config, "zoom_out_min_scale", 1.0),
        zoom_out_max_scale=number(config, "zoom_out_max_scale", 4.0),
        brightness=config.brightness if config.HasField("brightness") else 32,
        contrast=number(config, "contrast", 0.5),
        saturation=number(config, "saturation", 0.5),
        hue=config.hue if config.HasField("hue") else 18,
        random_flip=number(config, "random_flip", 0.5),
        image_mean=_image_mean(spec),
    )
    for name in ("random_crop_{}_scale", "random_crop_{}_ar", "zoom_out_{}_scale"):
        low, high = getattr(settings, name.format("min")), getattr(settings, name.format("max"))
        if low > high:
            # Point at the one that the file has: the other is then the default.
            written = "min" if config.HasField(name.format("min")) else "max"
            allowed = (
                f"<= {name.format('max')} ({high:g})"
                if written == "min"
                else f">= {name.format('min')} ({low:g})"
            )
            field = f"augmentation_config.{name.format(written)}"
            raise broken(spec, field, low if written == "min" else high, allowed)
    return settings


def _note_unset_augmentation(spec: _Spec, notes: list[str]) -> None:
    """Say where the documented default applies though NVIDIA's containers read nothing written as 0, off."""
    config = spec.message.augmentation_config
    unset = [name for name in _OFF_IN_CONTAINERS if not config.HasField(name)]
    if unset:
        notes.append(
            f"augmentation_config: {', '.join(unset)} not written, so the documented defaults apply; "
            "NVIDIA's 5.x containers switch them off instead (write 0 to have that here)"
        )


def _image_mean(spec: _Spec) -> tuple[float, ...] | None:
    config = spec.message.augmentation_config
    means = {key: as_written(value) for key, value in config.image_mean.items()}
    if not means:
        return None
    field = "augmentation_config.image_mean"
    for key, value in means.items():
        if key not in ("b", "g", "r", "l"):
            raise broken(spec, field, key, "given for the keys b, g, r or l")
        if not 0 <= value <= 255:
            raise broken(spec, field, value, ">= 0 and <= 255")
    wanted = ("b", "g", "r") if config.output_channel == 3 else ("l",)
    absent = [key for key in wanted if key not in means]
    if absent:
        needs = f"output_channel: {config.output_channel} needs {', '.join(wanted)}"
        hint = f"{needs}; without image_mean, ImageNet's values are used."
        raise spec.problem(f"image_mean has no value for {', '.join(absent)}", field=field, hint=hint)
    return tuple(means[key] for key in wanted)

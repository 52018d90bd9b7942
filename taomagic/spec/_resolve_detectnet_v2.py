"""From the text of DetectNet_v2's experiment file to its settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, cast

from taomagic.spec import detectnet_v2_pb2
from taomagic.spec._backbones import BACKBONES, frozen_blocks
from taomagic.spec._by_class import by_class
from taomagic.spec._resolve_detectnet_v2_boxes import resolve_clustering, resolve_rasterizer
from taomagic.spec._resolve_detectnet_v2_data import resolve_augmentation, resolve_dataset, resolve_loss_mask
from taomagic.spec._resolve_detectnet_v2_training import resolve_training
from taomagic.spec._resolve_trackers import without_secrets
from taomagic.spec._rules_detectnet_v2 import RULES
from taomagic.spec._without_effect import CLUSTERING_WITHOUT_EFFECT, without_effect
from taomagic.spec.parse import SpecFile, read_spec
from taomagic.spec.settings_detectnet_v2 import (
    BoxFilterSettings,
    ClassCostSettings,
    CostSettings,
    DetectNetEvaluationSettings,
    DetectNetExperiment,
    DetectNetModelSettings,
    Purpose,
)
from taomagic.spec.validate import as_written, broken, check_ranges, missing, number

Spec = SpecFile[detectnet_v2_pb2.Experiment]

#: What is needed to judge a network.
_JUDGED: Final = (
    "dataset_config",
    "augmentation_config.preprocessing",
    "postprocessing_config.target_class_config",
    "model_config.objective_set.bbox",
    "model_config.objective_set.cov",
    "evaluation_config.minimum_detection_ground_truth_overlap",
    "evaluation_config.evaluation_box_config",
    "cost_function_config.target_classes",
    "bbox_rasterizer_config.target_class_config",
)
#: The blocks that each purpose needs, and those inside them, as NVIDIA's validator wants them.
_REQUIRED: Final[Mapping[Purpose, tuple[str, ...]]] = {
    "train": (
        *_JUDGED,
        "training_config.learning_rate",
        "training_config.regularizer",
        "training_config.optimizer.adam",
        "training_config.cost_scaling",
    ),
    "evaluate": _JUDGED,
    "judge": _JUDGED,
    "export": ("cost_function_config.target_classes",),
    "calibration": (
        "dataset_config",
        "augmentation_config.preprocessing",
        "cost_function_config.target_classes",
    ),
}

#: Numbers of layers where they aren't SSD's; the first one is what an unset ``num_layers`` means.
_LAYERS: Final[Mapping[str, tuple[int, ...]]] = {"resnet": (18, 10, 34, 50, 101, 152, 200)}

#: Fields that NVIDIA's DetectNet_v2 reads and doesn't use, and neither does the embedded engine.
_WITHOUT_EFFECT: Final[Mapping[str, str]] = {
    "ModelConfig.activation": "the architecture decides",
    "ModelConfig.BboxObjective.input": "objectives are matched by name",
    "ModelConfig.CovObjective.input": "objectives are matched by name",
    "AugmentationConfig.Preprocessing.output_image_min": "pixels go from 0 to 1",
    "AugmentationConfig.Preprocessing.output_image_max": "pixels go from 0 to 1",
    "EvaluationConfig.early_stopping_patience_steps": "early_stopping_annealing_schedule decides",
    "Experiment.dataset_export_config": "dataset_convert has a file of its own",
    "PostProcessingConfig.TargetClassConfig.confidence_config": "clustering_config decides",
    **CLUSTERING_WITHOUT_EFFECT,
}


def resolve_experiment(path: Path, *, purpose: Purpose, shown_as: str | None = None) -> DetectNetExperiment:
    """Read, check and resolve a file; see :func:`taomagic.spec.detectnet_v2.read_experiment`."""
    spec = read_spec(path, detectnet_v2_pb2.Experiment, shown_as=shown_as)
    for name in _REQUIRED[purpose]:
        _require(spec, name)
    check_ranges(spec, RULES)
    message = spec.message
    notes = without_effect(message, _WITHOUT_EFFECT)
    cost = _cost(spec)
    classes = tuple(cost.classes)
    present = {descriptor.name for descriptor, _ in message.ListFields()}
    return DetectNetExperiment(
        path=spec.path,
        text=without_secrets(spec),
        random_seed=message.random_seed,
        classes=classes,
        model=_model(spec, notes) if "model_config" in present else None,
        training=resolve_training(spec, classes, notes) if "training_config" in present else None,
        evaluation=_evaluation(spec, classes) if "evaluation_config" in present else None,
        clustering=resolve_clustering(spec, classes) if "postprocessing_config" in present else {},
        cost=cost,
        rasterizer=resolve_rasterizer(spec, classes) if "bbox_rasterizer_config" in present else None,
        augmentation=resolve_augmentation(spec, notes) if "augmentation_config" in present else None,
        dataset=resolve_dataset(spec, purpose, classes, notes) if "dataset_config" in present else None,
        loss_mask=resolve_loss_mask(spec, classes) if "loss_mask_label_filter" in present else None,
        notes=tuple(notes),
    )


def _require(spec: Spec, name: str) -> None:
    """Raise SpecProblem unless a block, and all those around it, are there and not empty."""
    message: Any = spec.message
    done = ""
    for part in name.split("."):
        done = f"{done}.{part}" if done else part
        field = message.DESCRIPTOR.fields_by_name[part]
        absent = not getattr(message, part) if field.is_repeated else not message.HasField(part)
        if absent:
            raise missing(spec, done, hint=f"Add the block {part} {{ … }}; NVIDIA's sample specs show it.")
        message = getattr(message, part)


def _model(spec: Spec, notes: list[str]) -> DetectNetModelSettings:
    config = spec.message.model_config
    layers = _LAYERS.get(config.arch) or BACKBONES[config.arch].nlayers
    if config.num_layers and not layers:
        notes.append(f"model_config.num_layers has no effect; {config.arch} has one size")
    wanted = (config.num_layers or layers[0]) if layers else 0
    if layers and wanted not in layers:
        raise broken(spec, "model_config.num_layers", wanted, f"one of {', '.join(map(str, sorted(layers)))}")
    if config.arch == "darknet":
        notes.append(
            "model_config.arch: darknet has stride 16 here; in NVIDIA's containers it has 32, and its training fails"
        )
    if config.use_pooling and config.arch in ("resnet", "vgg"):
        raise spec.problem(
            "use_pooling: true is not supported: with pooling the network's stride is not 16",
            field="model_config.use_pooling",
            hint="Set use_pooling: false, as NVIDIA's sample specs do.",
        )
    precision = config.training_precision.backend_floatx
    if precision == detectnet_v2_pb2.ModelConfig.TrainingPrecision.INVALID:
        field = "model_config.training_precision.backend_floatx"
        raise broken(spec, field, "INVALID", "one of FLOAT32, FLOAT16")
    if not config.pretrained_model_file:
        for name in ("load_graph", "freeze_blocks"):
            if getattr(config, name):
                hint = "Name the file in pretrained_model_file, or remove the field."
                raise spec.problem(
                    f"{name} needs a pretrained_model_file", field=f"model_config.{name}", hint=hint
                )
        if config.freeze_pretrained_layers:
            notes.append("model_config.freeze_pretrained_layers has no effect without pretrained_model_file")
    _note_model_without_effect(config, notes)
    width = number(config, "width_multiplier", 1.0)
    if width != 1.0:
        notes.append(
            "model_config.width_multiplier is taomagic's extension; NVIDIA's containers reject files with it"
        )
    bbox = config.objective_set.bbox
    return DetectNetModelSettings(
        arch=config.arch,
        num_layers=wanted,
        use_pooling=config.use_pooling,
        use_batch_norm=config.use_batch_norm,
        all_projections=config.all_projections,
        dropout_rate=number(config, "dropout_rate"),
        bbox_scale=number(bbox, "scale"),
        bbox_offset=number(bbox, "offset"),
        pretrained_model_file=config.pretrained_model_file or None,
        load_graph=config.load_graph,
        allow_loaded_model_modification=config.allow_loaded_model_modification,
        freeze_pretrained_layers=config.freeze_pretrained_layers,
        freeze_bn=config.freeze_bn,
        freeze_blocks=frozen_blocks(spec, "model_config.freeze_blocks", config.arch, config.freeze_blocks),
        float16=precision == detectnet_v2_pb2.ModelConfig.TrainingPrecision.FLOAT16,
        width_multiplier=width,
    )


def _note_model_without_effect(config: detectnet_v2_pb2.ModelConfig, notes: list[str]) -> None:
    """Say which switches the architecture doesn't have."""
    arch = config.arch
    always = arch in ("mobilenet_v1", "mobilenet_v2", "efficientnet_b0")
    for name, written, why in (
        ("use_batch_norm", not config.use_batch_norm and always, f"{arch} always has it"),
        ("use_batch_norm", config.use_batch_norm and arch == "squeezenet", f"{arch} never has it"),
        ("all_projections", config.all_projections and arch != "resnet", "only resnet has projections"),
        ("use_pooling", config.use_pooling and arch not in ("resnet", "vgg"), f"{arch} has its own poolings"),
        ("dropout_rate", config.dropout_rate and arch != "mobilenet_v1", "only mobilenet_v1 has dropout"),
        (
            "freeze_bn",
            config.freeze_bn and (arch == "squeezenet" or not (config.use_batch_norm or always)),
            "there is no batch normalisation",
        ),
    ):
        if written:
            notes.append(f"model_config.{name} has no effect; {why}")


def _cost(spec: Spec) -> CostSettings:
    config = spec.message.cost_function_config
    classes: dict[str, ClassCostSettings] = {}
    for index, entry in enumerate(config.target_classes):
        field = f"cost_function_config.target_classes[{index}]"
        name = entry.name.strip().lower()
        if not name:
            raise missing(spec, f"{field}.name", hint='For example name: "car"')
        if name in classes:
            raise spec.problem(
                f"cost_function_config has the class {name!r} twice", field=f"{field}.name", hint="Keep one."
            )
        if not entry.objectives:
            hint = 'Add objectives { name: "cov" … } and objectives { name: "bbox" … }.'
            raise missing(spec, f"{field}.objectives", hint=hint)
        initial: dict[str, float] = {}
        target: dict[str, float] = {}
        for position, objective in enumerate(entry.objectives):
            full = f"{field}.objectives[{position}].name"
            if objective.name not in ("cov", "bbox"):
                raise broken(spec, full, objective.name, "one of cov, bbox")
            if objective.name in initial:
                raise spec.problem(
                    f"{name!r} has the objective {objective.name!r} twice", field=full, hint="Keep one."
                )
            initial[objective.name] = number(objective, "initial_weight")
            target[objective.name] = number(objective, "weight_target")
        for what, weights in (("initial_weight", initial), ("weight_target", target)):
            if sum(weights.values()) <= 0:
                hint = f"Give at least one of them a {what} above 0."
                raise spec.problem(f"the objectives of {name!r} have no {what}", field=field, hint=hint)
        classes[name] = ClassCostSettings(
            class_weight=number(entry, "class_weight"),
            coverage_foreground_weight=number(entry, "coverage_foreground_weight"),
            initial_weights=initial,
            weight_targets=target,
        )
    low, high = number(config, "min_objective_weight"), number(config, "max_objective_weight")
    if config.enable_autoweighting and not low <= high:
        allowed = f">= min_objective_weight ({low:g})"
        raise broken(spec, "cost_function_config.max_objective_weight", high, allowed)
    if config.enable_autoweighting and high == 0:
        hint = "For example max_objective_weight: 0.9999; 0 would switch every objective off."
        raise broken(
            spec,
            "cost_function_config.max_objective_weight",
            high,
            "> 0 with enable_autoweighting",
            hint=hint,
        )
    return CostSettings(classes, config.enable_autoweighting, high, low)


def _evaluation(spec: Spec, classes: tuple[str, ...]) -> DetectNetEvaluationSettings:
    config = spec.message.evaluation_config
    field = "evaluation_config.minimum_detection_ground_truth_overlap"
    overlaps = by_class(spec, field, config.minimum_detection_ground_truth_overlap, classes)
    for full, value in overlaps.values():
        if not 0 < value <= 1:
            raise broken(spec, full, as_written(value), "> 0 and <= 1")
    boxes = by_class(spec, "evaluation_config.evaluation_box_config", config.evaluation_box_config, classes)
    for full, box in boxes.values():
        for side in ("height", "width"):
            low, high = getattr(box, f"minimum_{side}"), getattr(box, f"maximum_{side}")
            if low > high:
                raise broken(spec, f"{full}.minimum_{side}", low, f"<= maximum_{side} ({high})")
    mode = detectnet_v2_pb2.EvaluationConfig.AveragePrecisionMode.Name(config.average_precision_mode)
    return DetectNetEvaluationSettings(
        validation_period=config.validation_period_during_training,
        first_validation_epoch=config.first_validation_epoch,
        average_precision_mode=cast(Literal["SAMPLE", "INTEGRATE"], mode),
        overlaps={name: as_written(overlaps[name][1]) for name in classes},
        boxes={
            name: BoxFilterSettings(
                box.minimum_height, box.maximum_height, box.minimum_width, box.maximum_width
            )
            for name, (_, box) in boxes.items()
            if name in classes
        },
    )

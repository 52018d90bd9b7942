"""Every field of the experiment and data set export files does something, is refused, or is noted; none is ignored.

The tables below say which. They are compared with the messages themselves, so that a field that is added to the proto
and to nothing else fails here, and so does a setting that nothing in the engine reads.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from taomagic.errors import SpecProblem
from taomagic.spec import dataset_export, settings
from taomagic.spec.dataset_export import DatasetExport, read_dataset_export
from taomagic.spec.ssd import SSDExperiment, read_experiment
from taomagic.spec.ssd_pb2 import DatasetExportConfig, Experiment

from .conftest import DOCUMENTED

Resolved: TypeAlias = SSDExperiment | DatasetExport

ENGINE = Path(__file__).parents[2] / "taomagic" / "engine"


class Case(NamedTuple):
    """What a field does."""

    does: Literal["used", "refused", "noted"]
    change: str  #: sets the field to another value, in protobuf text format
    says: str = ""  #: part of the refusal or of the note
    before: str = ""  #: what the file has already, apart from the common lines
    without: tuple[str, ...] = ()  #: fields taken out of the common lines
    instead: tuple[str, ...] = ()  #: fields that the change replaces, where it would only add to them


def used(change: str, before: str = "", without: tuple[str, ...] = (), instead: tuple[str, ...] = ()) -> Case:
    return Case("used", change, "", before, without, instead)


def refused(change: str, says: str, before: str = "", without: tuple[str, ...] = ()) -> Case:
    return Case("refused", change, says, before, without)


def noted(change: str, says: str = "has no effect", before: str = "", instead: tuple[str, ...] = ()) -> Case:
    return Case("noted", change, says, before, (), instead)


def block(name: str, /, **lines: Case) -> dict[str, Case]:
    """Return the cases of a block's fields, each change put into the block."""
    opening, closing = "".join(f"{part} {{ " for part in name.split(".")), " }" * (name.count(".") + 1)
    return {
        f"{name}.{field}": case._replace(
            change=f"{opening}{case.change}{closing}",
            before=f"{opening}{case.before}{closing}" if case.before else "",
            without=tuple(f"{name}.{other}" for other in case.without),
            instead=tuple(f"{name}.{other}" for other in case.instead),
        )
        for field, case in lines.items()
    }


SCHEDULE = "training_config.learning_rate.soft_start_annealing_schedule"
COSINE = "training_config.learning_rate.soft_start_cosine_annealing_schedule"
DSSD = "not yet DSSD"
FOLDERS = 'dataset_config { data_sources { label_directory_path: "/l" image_directory_path: "/i" } }'
SOURCES = ("dataset_config.data_sources",)

EXPERIMENT: dict[str, Case] = {
    "random_seed": used("random_seed: 7"),
    "dssd_config": refused("dssd_config { }", DSSD),
    **block(
        "ssd_config",
        aspect_ratios=used('aspect_ratios: "[[1], [2], [3], [1], [1], [1]]"'),
        aspect_ratios_global=used(
            'aspect_ratios_global: "[1.0, 4.0]"', 'aspect_ratios_global: "[1.0]"', ("aspect_ratios",)
        ),
        scales=used('scales: "[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]"'),
        min_scale=used("min_scale: 0.2", "min_scale: 0.1 max_scale: 0.9", ("scales",)),
        max_scale=used("max_scale: 0.8", "min_scale: 0.1 max_scale: 0.9", ("scales",)),
        two_boxes_for_ar1=used("two_boxes_for_ar1: false"),
        steps=used('steps: "[8, 16, 32, 64, 100, (300, 200)]"'),
        clip_boxes=used("clip_boxes: true"),
        variances=used('variances: "[0.1, 0.1, 0.2, 0.3]"'),
        offsets=used('offsets: "[0.5, 0.5, 0.5, 0.5, 0.5, 0.25]"'),
        mean_color=noted('mean_color: "[1, 2, 3]"'),
        arch=used('arch: "darknet" nlayers: 19'),
        nlayers=used("nlayers: 34"),
        pred_num_channels=refused("pred_num_channels: 512", DSSD),
        alpha=used("alpha: 2"),
        neg_pos_ratio=used("neg_pos_ratio: 2.5"),
        pos_iou_thresh=used("pos_iou_thresh: 0.6"),
        freeze_blocks=used("freeze_blocks: 2"),
        freeze_bn=used("freeze_bn: true"),
        neg_iou_thresh=used("neg_iou_thresh: 0.4"),
        width_multiplier=used("width_multiplier: 0.25"),
    ),
    **block(
        "training_config",
        batch_size_per_gpu=used("batch_size_per_gpu: 4"),
        num_epochs=used("num_epochs: 3"),
        checkpoint_interval=used("checkpoint_interval: 5"),
        enable_qat=used("enable_qat: true"),
        resume_model_path=used('resume_model_path: "/a.tlt"'),
        pretrain_model_path=used('pretrain_model_path: "/a.tlt"'),
        pruned_model_path=used('pruned_model_path: "/a.tlt"'),
        max_queue_size=used("max_queue_size: 3"),
        n_workers=used("n_workers: 3"),
        use_multiprocessing=used("use_multiprocessing: true"),
        model_ema=used("model_ema: true"),
    ),
    **block(
        SCHEDULE,
        min_learning_rate=used("min_learning_rate: 1e-6"),
        max_learning_rate=used("max_learning_rate: 1e-1"),
        soft_start=used("soft_start: 0.3"),
        annealing=used("annealing: 0.9"),
    ),
    **block(
        COSINE,
        max_learning_rate=refused("max_learning_rate: 1e-2", "not supported"),
        soft_start=refused("soft_start: 0.1", "not supported"),
        min_learning_rate=refused("min_learning_rate: 1e-5", "not supported"),
    ),
    **block("training_config.regularizer", type=used("type: L2"), weight=used("weight: 1e-4")),
    **block(
        "training_config.optimizer.adam",
        epsilon=used("epsilon: 1e-4", "beta1: 0.9"),
        beta1=used("beta1: 0.8", "beta1: 0.9"),
        beta2=used("beta2: 0.8", "beta1: 0.9"),
        amsgrad=used("amsgrad: true", "beta1: 0.9"),
    ),
    **block(
        "training_config.optimizer.sgd",
        momentum=used("momentum: 0.8", "momentum: 0.9"),
        nesterov=used("nesterov: true", "momentum: 0.9"),
    ),
    **block(
        "training_config.optimizer.rmsprop",
        rho=used("rho: 0.8", "rho: 0.9"),
        momentum=used("momentum: 0.8", "rho: 0.9"),
        epsilon=used("epsilon: 1e-4", "rho: 0.9"),
        centered=used("centered: true", "rho: 0.9"),
    ),
    **block(
        "training_config.cost_scaling",
        enabled=used("enabled: true"),
        initial_exponent=used("initial_exponent: 8", "enabled: true"),
        increment=used("increment: 0.5", "enabled: true"),
        decrement=used("decrement: 0.5", "enabled: true"),
    ),
    **block(
        "training_config.early_stopping",
        monitor=used('monitor: "validation_loss"', "patience: 2"),
        min_delta=used("min_delta: 0.5", "patience: 2"),
        patience=used("patience: 3", "patience: 2"),
    ),
    **block(
        "training_config.visualizer",
        enabled=used("enabled: true", "enabled: false"),
        num_images=used("num_images: 0", "enabled: true"),
        weight_histograms=used("weight_histograms: true", "enabled: true"),
    ),
    **block(
        "training_config.visualizer.wandb_config",
        enabled=used("enabled: true", "enabled: false"),
        key=used('key: "a"', "enabled: true"),
        project=used('project: "a"', "enabled: true"),
        entity=used('entity: "a"', "enabled: true"),
        reinit=used("reinit: true", "enabled: true"),
        name=used('name: "a"', "enabled: true"),
        tags=used('tags: "a"', "enabled: true"),
        wandb_dir=used('wandb_dir: "/a"', "enabled: true"),
        notes=used('notes: "a"', "enabled: true"),
        mode=used("mode: OFFLINE", "enabled: true"),
    ),
    **block(
        "training_config.visualizer.clearml_config",
        project=used('project: "a"', 'task: "t"'),
        task=used('task: "a"', 'task: "t"'),
        tags=used('tags: "a"', 'task: "t"'),
        reuse_last_task_id=used("reuse_last_task_id: true", 'task: "t"'),
        continue_last_task=used("continue_last_task: true", 'task: "t"'),
        deferred_init=used('deferred_init: "true"', 'task: "t"'),
    ),
    **block(
        "eval_config",
        validation_period_during_training=used("validation_period_during_training: 2"),
        average_precision_mode=used("average_precision_mode: INTEGRATE"),
        batch_size=used("batch_size: 4"),
        matching_iou_threshold=used("matching_iou_threshold: 0.7"),
        visualize_pr_curve=used("visualize_pr_curve: true"),
    ),
    **block(
        "nms_config",
        confidence_threshold=used("confidence_threshold: 0.05"),
        clustering_iou_threshold=used("clustering_iou_threshold: 0.5"),
        top_k=used("top_k: 100"),
        infer_nms_score_bits=used("infer_nms_score_bits: 10"),
        force_on_cpu=noted("force_on_cpu: true"),
        cluster_iou_threshold=used(
            "cluster_iou_threshold: 0.5", "cluster_iou_threshold: 0.4", ("clustering_iou_threshold",)
        ),
    ),
    **block(
        "augmentation_config",
        output_width=used("output_width: 320"),
        output_height=used("output_height: 320"),
        output_channel=used("output_channel: 1", "image_mean { key: 'l' value: 100 }"),
        random_crop_min_scale=used("random_crop_min_scale: 0.5"),
        random_crop_max_scale=used("random_crop_max_scale: 0.5"),
        random_crop_min_ar=used("random_crop_min_ar: 0.8"),
        random_crop_max_ar=used("random_crop_max_ar: 0.8"),
        zoom_out_min_scale=used("zoom_out_min_scale: 2"),
        zoom_out_max_scale=used("zoom_out_max_scale: 2"),
        brightness=used("brightness: 0"),
        contrast=used("contrast: 0"),
        saturation=used("saturation: 0"),
        hue=used("hue: 0"),
        random_flip=used("random_flip: 0"),
        image_mean=used("image_mean { key: 'b' value: 1 }"),
    ),
    **block(
        "dataset_config",
        target_class_mapping=used("target_class_mapping { key: 'van' value: 'van' }"),
        include_difficult_in_training=used("include_difficult_in_training: false"),
        type=noted('type: "kitti"'),
    ),
    # A repeated block: what is merged in is one more source.
    "dataset_config.data_sources.tfrecords_path": used(
        'dataset_config { data_sources { tfrecords_path: "/b" } }'
    ),
    "dataset_config.data_sources.label_directory_path": used(
        FOLDERS.replace('"/l"', '"/l2"'), FOLDERS, without=SOURCES
    ),
    "dataset_config.data_sources.image_directory_path": used(
        FOLDERS.replace('"/i"', '"/i2"'), FOLDERS, without=SOURCES
    ),
    "dataset_config.data_sources.root_path": noted(
        'dataset_config { data_sources { tfrecords_path: "/path/to/train/tfrecord" root_path: "/r" } }',
        instead=SOURCES,
    ),
    "dataset_config.validation_data_sources.label_directory_path": used(
        'dataset_config { validation_data_sources { label_directory_path: "/l" image_directory_path: "/i" } }'
    ),
    "dataset_config.validation_data_sources.image_directory_path": used(
        'dataset_config { validation_data_sources { label_directory_path: "/l" image_directory_path: "/j" } }'
    ),
    "dataset_config.validation_data_sources.root_path": noted(
        'dataset_config { validation_data_sources { root_path: "/r" } }'
    ),
    "dataset_config.validation_data_sources.tfrecords_path": noted(
        'dataset_config { validation_data_sources { tfrecords_path: "/r" } }',
        "validation_data_sources[1] is left out",
    ),
}

KITTI = (
    'kitti_config { root_directory_path: "/r" image_dir_name: "i" label_dir_name: "l" } '
    'target_class_mapping { key: "car" value: "car" }'
)
COCO = (
    'coco_config { root_directory_path: "/r" img_dir_names: ["a", "b"] annotation_files: ["c", "d"] } '
    'target_class_mapping { key: "car" value: "car" }'
)
IN_ORDER = 'partition_mode: "sequence" kitti_sequence_to_frames_file: "f.json" num_partitions: 2'

KITTI_EXPORT: dict[str, Case] = {
    **block(
        "kitti_config",
        root_directory_path=used('root_directory_path: "/s"'),
        image_dir_name=used('image_dir_name: "j"'),
        label_dir_name=used('label_dir_name: "m"'),
        point_clouds_dir=refused('point_clouds_dir: "p"', "SSD reads images and labels only"),
        calibrations_dir=refused('calibrations_dir: "p"', "SSD reads images and labels only"),
        kitti_sequence_to_frames_file=used('kitti_sequence_to_frames_file: "g.json"', IN_ORDER),
        image_extension=used('image_extension: ".jpg"'),
        num_partitions=used("num_partitions: 5", IN_ORDER),
        num_shards=used("num_shards: 3"),
        partition_mode=used('partition_mode: "sequence"', 'kitti_sequence_to_frames_file: "f.json"'),
        val_split=used("val_split: 10"),
    ),
    "image_directory_path": noted('image_directory_path: "/elsewhere"'),
    "target_class_mapping": used('target_class_mapping { key: "van" value: "car" }'),
}
COCO_EXPORT: dict[str, Case] = block(
    "coco_config",
    root_directory_path=used('root_directory_path: "/s"'),
    img_dir_names=used('img_dir_names: ["x", "y"]', instead=("img_dir_names",)),
    annotation_files=used('annotation_files: ["x", "y"]', instead=("annotation_files",)),
    num_partitions=refused("num_partitions: 3", "The length of img_dir_names should be num_partitions (3)"),
    num_shards=used("num_shards: [3, 4]"),
    image_dir_names=used(
        'image_dir_names: ["x", "y"]', 'image_dir_names: ["a", "b"]', ("img_dir_names",), ("image_dir_names",)
    ),
)
MODIFIER: dict[str, Case] = block(
    "sample_modifier_config",
    filter_samples_containing_only=used('filter_samples_containing_only: "car"', "max_training_samples: 5"),
    dominant_target_classes=used('dominant_target_classes: "car"', "max_training_samples: 5"),
    minimum_target_class_imbalance=used(
        'minimum_target_class_imbalance { key: "car" value: 1 }', "max_training_samples: 5"
    ),
    num_duplicates=used("num_duplicates: 1", 'dominant_target_classes: "car"'),
    max_training_samples=used("max_training_samples: 1", "max_training_samples: 5"),
    source_to_target_class_mapping=used(
        'source_to_target_class_mapping { key: "a" value: "b" }', "max_training_samples: 5"
    ),
)


def leaves(message: Descriptor, prefix: str = "") -> Iterator[str]:
    """Yield the full names of all scalars and maps that a message can hold; DSSD's block counts as one."""
    for field in message.fields:
        name = f"{prefix}{field.name}"
        inner = field.message_type
        if inner is None or inner.GetOptions().map_entry or name == "dssd_config":
            yield name
        else:
            yield from leaves(inner, f"{name}.")


def text_of(kind: type[Message], common: str, case: Case, *, changed: bool) -> str:
    message = kind()
    text_format.Merge(common, message)
    for name in case.without:
        _clear(message, name)
    text_format.Merge(case.before, message)
    if changed:
        for name in case.instead:
            _clear(message, name)
        text_format.Merge(case.change, message)
    return text_format.MessageToString(message)


def _clear(message: Message, name: str) -> None:
    *blocks, field = name.split(".")
    for part in blocks:
        message = getattr(message, part)
    message.ClearField(field)


def values_of(resolved: Resolved) -> dict[str, Any]:
    """Return what the engine gets, apart from the text itself and what is said about it; secrets made visible."""
    values = dataclasses.asdict(resolved)
    for name in ("path", "text", "notes"):
        del values[name]
    visualizer = (values.get("training") or {}).get("visualizer") or {}
    if (visualizer.get("wandb") or {}).get("key") is not None:
        visualizer["wandb"]["key"] = visualizer["wandb"]["key"].reveal()
    return values


def check(kind: type[Message], read: Callable[[str], Resolved], common: str, case: Case) -> None:
    before = read(text_of(kind, common, case, changed=False))
    text = text_of(kind, common, case, changed=True)
    if case.does == "refused":
        with pytest.raises(SpecProblem) as caught:
            read(text)
        assert case.says in caught.value.message
        assert caught.value.hint
        assert caught.value.line is not None
        return
    after = read(text)
    if case.does == "used":
        assert values_of(after) != values_of(before)
    else:
        assert values_of(after) == values_of(before)
        assert [note for note in after.notes if case.says in note and note not in before.notes]


@pytest.mark.parametrize("field", EXPERIMENT)
def test_a_field_of_an_experiment_is_used_refused_or_noted(tmp_path: Path, field: str) -> None:
    def read(text: str) -> SSDExperiment:
        path = tmp_path / "spec.txt"
        path.write_text(text, encoding="utf-8")
        return read_experiment(path, purpose="train")

    common = DOCUMENTED.read_text(encoding="utf-8") + "eval_config { validation_period_during_training: 1 }"
    check(Experiment, read, common, EXPERIMENT[field])


@pytest.mark.parametrize("field", [*KITTI_EXPORT, *COCO_EXPORT, *MODIFIER])
def test_a_field_of_an_export_file_is_used_refused_or_noted(tmp_path: Path, field: str) -> None:
    def read(text: str) -> DatasetExport:
        path = tmp_path / "export.txt"
        path.write_text(text, encoding="utf-8")
        return read_dataset_export(path)

    case = (KITTI_EXPORT | COCO_EXPORT | MODIFIER)[field]
    check(DatasetExportConfig, read, COCO if field in COCO_EXPORT else KITTI, case)


def test_the_tables_have_every_field() -> None:
    assert set(leaves(Experiment.DESCRIPTOR)) == set(EXPERIMENT)
    assert set(leaves(DatasetExportConfig.DESCRIPTOR)) == set(KITTI_EXPORT) | set(COCO_EXPORT) | set(MODIFIER)


def test_every_field_of_dssd_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "spec.txt"
    for field in Experiment.DESCRIPTOR.fields_by_name["dssd_config"].message_type.fields:
        message = Experiment()
        text_format.Merge(DOCUMENTED.read_text(encoding="utf-8"), message)
        value: Any = "1" if field.type == FieldDescriptor.TYPE_STRING else 1
        if field.is_repeated:
            getattr(message.dssd_config, field.name).append(value)
        else:
            setattr(message.dssd_config, field.name, value)
        path.write_text(text_format.MessageToString(message), encoding="utf-8")
        with pytest.raises(SpecProblem, match=DSSD):
            read_experiment(path, purpose="train")


# Settings that only people read, or that say the same for every file that is accepted.
NOT_FOR_THE_ENGINE = {
    "SSDExperiment.notes",  # in the summary
    "SSDModelSettings.pred_num_channels",  # 0, or the file is refused
}


def test_the_engine_reads_every_setting() -> None:
    """A name that no module of the engine reads as an attribute is a setting without effect."""
    read = {
        node.attr
        for path in ENGINE.rglob("*.py")
        if "detectnet_v2" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    unread = {
        f"{name}.{field.name}"
        for module in (settings, dataset_export)
        for name, kind in vars(module).items()
        if dataclasses.is_dataclass(kind)
        for field in dataclasses.fields(kind)
        if field.name not in read
    }
    assert unread <= NOT_FOR_THE_ENGINE

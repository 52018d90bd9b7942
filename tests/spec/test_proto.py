from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from taomagic.spec import ssd_pb2
from taomagic.spec.generate import OLDEST_RUNTIME, PROTOS, generate

FOLDER = Path(ssd_pb2.__file__).parent


def test_the_generated_files_are_those_of_the_proto(tmp_path: Path) -> None:
    for path in generate(tmp_path):
        assert path.read_text(encoding="utf-8") == (FOLDER / path.name).read_text(encoding="utf-8"), path.name


@pytest.mark.parametrize("name", PROTOS)
def test_the_generated_module_loads_in_the_oldest_supported_protobuf(name: str) -> None:
    text = (FOLDER / f"{name}_pb2.py").read_text(encoding="utf-8")
    assert f"# Protobuf Python Version: {'.'.join(map(str, OLDEST_RUNTIME))}\n" in text
    numbers = text.split("Domain.PUBLIC,")[1].split("'")[0].replace(",", " ").split()
    assert tuple(map(int, numbers)) == OLDEST_RUNTIME


@pytest.mark.parametrize("implementation", ["upb", "python"])
def test_the_generated_module_works_with_each_implementation_of_protobuf(implementation: str) -> None:
    code = (
        "from google.protobuf import text_format\n"
        "from taomagic.spec.ssd_pb2 import Experiment\n"
        "from taomagic.spec.parse import parse_spec\n"
        "from taomagic.spec.validate import check_ranges\n"
        "spec = parse_spec('nms_config { top_k: 5 }', Experiment, name='x')\n"
        "try:\n    check_ranges(spec)\nexcept Exception as error:\n    print(error.message)\n"
    )
    environment = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation}
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=60,
        cwd=FOLDER.parents[1],
    )
    assert "nms_config.confidence_threshold should be set" in result.stdout


# Message, field, number: what the engine's readers and NVIDIA's serialised messages rely on.
NUMBERS = [
    (
        "Experiment",
        "random_seed dataset_config augmentation_config training_config eval_config nms_config ssd_config dssd_config",
    ),
    (
        "SSDConfig",
        "aspect_ratios aspect_ratios_global scales min_scale max_scale two_boxes_for_ar1 steps clip_boxes variances "
        "offsets mean_color arch nlayers pred_num_channels alpha neg_pos_ratio pos_iou_thresh freeze_blocks freeze_bn "
        "neg_iou_thresh",
    ),
    (
        "TrainingConfig",
        "batch_size_per_gpu num_epochs learning_rate regularizer optimizer cost_scaling checkpoint_interval enable_qat "
        "resume_model_path pretrain_model_path pruned_model_path max_queue_size n_workers use_multiprocessing "
        "early_stopping visualizer model_ema",
    ),
    ("LearningRateConfig", "soft_start_annealing_schedule soft_start_cosine_annealing_schedule"),
    ("SoftStartAnnealingScheduleConfig", "min_learning_rate max_learning_rate soft_start annealing"),
    ("SoftStartCosineAnnealingScheduleConfig", "max_learning_rate soft_start min_learning_rate"),
    ("RegularizerConfig", "type weight"),
    ("OptimizerConfig", "adam sgd rmsprop"),
    ("AdamOptimizerConfig", "epsilon beta1 beta2 amsgrad"),
    ("SgdOptimizerConfig", "momentum nesterov"),
    ("RmspropOptimizerConfig", "rho momentum epsilon centered"),
    ("CostScalingConfig", "enabled initial_exponent increment decrement"),
    ("EarlyStoppingConfig", "monitor min_delta patience"),
    ("VisualizerConfig", "enabled num_images weight_histograms wandb_config clearml_config"),
    ("WandBConfig", "enabled key project entity reinit name tags wandb_dir notes mode"),
    ("ClearMLConfig", "project task tags reuse_last_task_id continue_last_task deferred_init"),
    (
        "EvalConfig",
        "validation_period_during_training average_precision_mode batch_size matching_iou_threshold visualize_pr_curve",
    ),
    ("NMSConfig", "confidence_threshold clustering_iou_threshold top_k infer_nms_score_bits force_on_cpu"),
    (
        "AugmentationConfig",
        "output_width output_height output_channel random_crop_min_scale random_crop_max_scale random_crop_min_ar "
        "random_crop_max_ar zoom_out_min_scale zoom_out_max_scale brightness contrast saturation hue random_flip "
        "image_mean",
    ),
    (
        "DatasetConfig",
        "data_sources target_class_mapping validation_data_sources include_difficult_in_training type",
    ),
    ("DataSource", "label_directory_path image_directory_path root_path tfrecords_path"),
    (
        "KITTIConfig",
        "root_directory_path image_dir_name label_dir_name point_clouds_dir calibrations_dir "
        "kitti_sequence_to_frames_file image_extension num_partitions num_shards partition_mode val_split",
    ),
    ("COCOConfig", "root_directory_path img_dir_names annotation_files num_partitions num_shards"),
]
EXTENSIONS = {
    "SSDConfig": {"width_multiplier": 1000},
    "NMSConfig": {"cluster_iou_threshold": 1000},
    "COCOConfig": {"image_dir_names": 1000},
}


@pytest.mark.parametrize(("message", "names"), NUMBERS, ids=[message for message, _ in NUMBERS])
def test_fields_have_nvidias_numbers_and_extensions_numbers_from_1000(message: str, names: str) -> None:
    fields = {field.name: field.number for field in getattr(ssd_pb2, message).DESCRIPTOR.fields}
    assert fields == {name: number for number, name in enumerate(names.split(), 1)} | EXTENSIONS.get(
        message, {}
    )


def test_the_export_file_has_nvidias_numbers() -> None:
    fields = {field.name: field.number for field in ssd_pb2.DatasetExportConfig.DESCRIPTOR.fields}
    assert fields == {
        "coco_config": 1,
        "kitti_config": 2,
        "sample_modifier_config": 5,
        "image_directory_path": 6,
        "target_class_mapping": 7,
    }


def test_every_scalar_keeps_a_written_zero_apart_from_nothing_written() -> None:
    messages = [getattr(ssd_pb2, message).DESCRIPTOR for message, _ in NUMBERS] + [
        ssd_pb2.DatasetExportConfig.DESCRIPTOR
    ]
    for message in messages:
        for field in message.fields:
            assert field.is_repeated or field.has_presence, field.full_name

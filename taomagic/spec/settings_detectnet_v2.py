"""What DetectNet_v2's files say, once every default is applied: plain values for the engine.

Shared with SSD: the optimiser, the trackers and cost scaling of :mod:`taomagic.spec.settings`. Classes are lower-cased,
as the loaders compare them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from taomagic.spec.settings import ClearMLSettings, CostScalingSettings, OptimizerSettings, WandBSettings

#: What a file is read for; ``judge`` is ``evaluate`` with images that flags name.
Purpose = Literal["train", "evaluate", "judge", "export", "calibration"]

Clustering = Literal["DBSCAN", "NMS", "HYBRID"]


@dataclass(frozen=True, slots=True)
class DetectNetModelSettings:
    """``model_config``."""

    arch: str
    num_layers: int
    use_pooling: bool
    use_batch_norm: bool
    all_projections: bool
    dropout_rate: float  #: of the architectures that have dropout
    bbox_scale: float  #: pixels; box offsets are divided by it
    bbox_offset: float  #: where in a cell its centre lies, in pixels
    pretrained_model_file: str | None  #: as written
    load_graph: bool  #: take the file's whole network, heads included; how a pruned model is retrained
    allow_loaded_model_modification: bool
    freeze_pretrained_layers: bool
    freeze_bn: bool
    freeze_blocks: tuple[int, ...]
    float16: bool  #: ``training_precision``
    width_multiplier: float  #: taomagic's extension


@dataclass(frozen=True, slots=True)
class SoftStartSettings:
    """``soft_start_annealing_schedule``: geometric rise to the maximum, and fall, by shares of the training."""

    min_learning_rate: float
    max_learning_rate: float
    soft_start: float
    annealing: float


@dataclass(frozen=True, slots=True)
class EarlyStoppingScheduleSettings:
    """``early_stopping_annealing_schedule``: anneal when the validation cost stops falling, then end."""

    min_learning_rate: float
    max_learning_rate: float
    soft_start_epochs: int
    annealing_epochs: int
    patience_steps: int  #: epochs


@dataclass(frozen=True, slots=True)
class DetectNetVisualizerSettings:
    """``visualizer``."""

    enabled: bool
    num_images: int
    scalar_logging_frequency: int | None  #: steps; None = ten points an epoch
    infrequent_logging_frequency: int  #: epochs
    coverage_thresholds: Mapping[str, float]  #: by class
    wandb: WandBSettings | None
    clearml: ClearMLSettings | None


@dataclass(frozen=True, slots=True)
class DetectNetTrainingSettings:
    """``training_config``."""

    batch_size_per_gpu: int
    num_epochs: int
    schedule: SoftStartSettings | EarlyStoppingScheduleSettings
    regularizer: Literal["NO_REG", "L1", "L2"]
    regularizer_weight: float
    optimizer: OptimizerSettings
    cost_scaling: CostScalingSettings | None
    checkpoint_interval: int  #: epochs
    enable_qat: bool
    visualizer: DetectNetVisualizerSettings | None


@dataclass(frozen=True, slots=True)
class BoxFilterSettings:
    """``evaluation_box_config`` of a class: which boxes count, in pixels."""

    minimum_height: int
    maximum_height: int
    minimum_width: int
    maximum_width: int


@dataclass(frozen=True, slots=True)
class DetectNetEvaluationSettings:
    """``evaluation_config``."""

    validation_period: int  #: epochs
    first_validation_epoch: int
    average_precision_mode: Literal["SAMPLE", "INTEGRATE"]
    overlaps: Mapping[str, float]  #: least IoU of a hit, by class
    boxes: Mapping[str, BoxFilterSettings]


@dataclass(frozen=True, slots=True)
class ClusteringSettings:
    """``clustering_config`` of a class: how cells become boxes."""

    algorithm: Clustering
    coverage_threshold: float
    minimum_bounding_box_height: int
    dbscan_eps: float  #: largest 1 - IoU of neighbours
    dbscan_min_samples: float  #: as written; the algorithm uses at least 1
    dbscan_confidence_threshold: float
    nms_iou_threshold: float | None  #: None = not written
    nms_confidence_threshold: float | None


@dataclass(frozen=True, slots=True)
class ClassCostSettings:
    """A class in ``cost_function_config``."""

    class_weight: float
    coverage_foreground_weight: float
    initial_weights: Mapping[str, float]  #: by objective, ``cov`` and ``bbox``
    weight_targets: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class CostSettings:
    """``cost_function_config``; the order of the classes is that of the network's channels."""

    classes: Mapping[str, ClassCostSettings]
    enable_autoweighting: bool
    max_objective_weight: float
    min_objective_weight: float


@dataclass(frozen=True, slots=True)
class ClassRasterizerSettings:
    """How the boxes of a class are drawn into the coverage map; centre and radius are shares of the box."""

    cov_center_x: float
    cov_center_y: float
    cov_radius_x: float
    cov_radius_y: float
    bbox_min_radius: float  #: cells


@dataclass(frozen=True, slots=True)
class RasterizerSettings:
    """``bbox_rasterizer_config``."""

    classes: Mapping[str, ClassRasterizerSettings]
    deadzone_radius: float


@dataclass(frozen=True, slots=True)
class DetectNetAugmentationSettings:
    """``augmentation_config``: the network's input, and the random changes of the training images.

    What NVIDIA's loaders treat differently is as that of ``dataloader_mode`` does it.
    """

    output_width: int
    output_height: int
    output_channel: int
    crop: tuple[int, int, int, int] | None  #: left, top, right, bottom in pixels
    min_bbox_width: float
    min_bbox_height: float
    scale_width: float  #: 0 = not scaled
    scale_height: float
    enable_auto_resize: bool
    hflip_probability: float
    vflip_probability: float
    zoom_min: float
    zoom_max: float
    translate_max_x: float  #: pixels
    translate_max_y: float
    rotate_max: float  #: degrees
    rotate_probability: float
    color_shift_stddev: float
    hue_rotation_max: float  #: degrees
    saturation_shift_max: float
    contrast_scale_max: float
    contrast_center: float


@dataclass(frozen=True, slots=True)
class DetectNetSource:
    """One source of TFRecords and their images, with the paths as written."""

    tfrecords_path: str  #: a glob pattern
    image_directory_path: str
    weight: float


@dataclass(frozen=True, slots=True)
class DetectNetDatasetSettings:
    """``dataset_config``."""

    data_sources: tuple[DetectNetSource, ...]
    image_extension: str  #: without its dot
    class_mapping: Mapping[str, str]
    validation_fold: int | None
    validation_source: DetectNetSource | None
    sampling_mode: Literal["USER_DEFINED", "PROPORTIONAL", "UNIFORM"]


@dataclass(frozen=True, slots=True)
class LabelFilterSettings:
    """One entry of ``loss_mask_label_filter``: which objects change the weight of the loss in their boxes."""

    kind: Literal["dimensions", "crop", "source_class"]
    limits: Mapping[str, float]  #: what is written, under its name in the file
    source_classes: tuple[str, ...]
    target_classes: tuple[str, ...]  #: empty = all
    objectives: tuple[str, ...]  #: empty = all


@dataclass(frozen=True, slots=True)
class LossMaskSettings:
    """``loss_mask_label_filter``."""

    filters: tuple[LabelFilterSettings, ...]
    mask_multiplier: float
    preserve_ground_truth: bool


@dataclass(frozen=True, slots=True)
class DetectNetExperiment:
    """An experiment file with all defaults applied.

    Blocks that the purpose doesn't need and the file doesn't have are ``None``.
    """

    path: str
    text: str
    random_seed: int
    classes: tuple[str, ...]  #: the order of the network's channels
    model: DetectNetModelSettings | None
    training: DetectNetTrainingSettings | None
    evaluation: DetectNetEvaluationSettings | None
    clustering: Mapping[str, ClusteringSettings]
    cost: CostSettings
    rasterizer: RasterizerSettings | None
    augmentation: DetectNetAugmentationSettings | None
    dataset: DetectNetDatasetSettings | None
    loss_mask: LossMaskSettings | None
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return the experiment as it will run, defaults included, for people to read."""
        from taomagic.spec.summary import summarize

        return summarize(self)


@dataclass(frozen=True, slots=True)
class BboxHandlerSettings:
    """What ``inference`` does with the boxes of a class."""

    clustering: ClusteringSettings
    confidence_model: Literal["aggregate_cov", "mean_cov"]
    output_name: str  #: the class in the labels
    color: tuple[int, int, int]  #: red, green, blue


@dataclass(frozen=True, slots=True)
class InferenceSettings:
    """An inference file with all defaults applied; paths are as written."""

    path: str
    text: str
    classes: tuple[str, ...]
    model: str | None
    engine: str | None  #: ``trt_engine``
    etlt_model: str | None
    data_type: Literal["FP32", "FP16", "INT8"]
    batch_size: int
    image_height: int
    image_width: int
    image_channels: int
    gpu_index: int
    stride: int
    kitti_dump: bool
    overlay: bool
    overlay_linewidth: int
    handlers: Mapping[str, BboxHandlerSettings]  #: for every class that is wanted
    notes: tuple[str, ...] = ()

"""The resolved SSD experiment: plain, frozen, typed values, every default filled in, every rule checked.

The engine reads these and never the protobuf messages. Field names are those of the experiment file; units
stand beside the fields that have one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "AugmentationSettings",
    "ClearMLSettings",
    "CostScalingSettings",
    "DataSource",
    "DatasetSettings",
    "EarlyStoppingSettings",
    "EvaluationSettings",
    "LoadModelSettings",
    "NMSSettings",
    "OptimizerSettings",
    "Purpose",
    "SSDExperiment",
    "SSDModelSettings",
    "Secret",
    "TrainingSettings",
    "VisualizerSettings",
    "WandBSettings",
]

#: What the experiment file is read for; decides which blocks must be there. ``judge`` is ``evaluate`` with images that
#: flags name.
Purpose = Literal["train", "evaluate", "judge", "inference", "export"]


@dataclass(frozen=True, slots=True)
class SSDModelSettings:
    """``ssd_config``: the network, its anchor boxes and its loss."""

    arch: str
    nlayers: int  #: 0 for architectures of one size
    width_multiplier: float  #: taomagic's extension: factor on all channel counts, 1.0 = NVIDIA's network
    aspect_ratios: tuple[tuple[float, ...], ...]  #: width / height, one list for each of the 6 feature maps
    scales: tuple[
        float, ...
    ]  #: 7 anchor sizes, fractions of the shorter image side; the last one is for the ratio-1 twin
    two_boxes_for_ar1: bool
    clip_boxes: bool
    variances: tuple[float, float, float, float]  #: for cx, cy, w, h
    steps: (
        tuple[tuple[float, float], ...] | None
    )  #: 6 × (vertical, horizontal) pixels; None = image size / map size
    offsets: tuple[float, ...] | None  #: 6 fractions of a step; None = 0.5
    pred_num_channels: int  #: 0 = no prediction module
    alpha: float  #: weight of the localisation loss
    neg_pos_ratio: float  #: hard negatives kept for each positive anchor
    pos_iou_thresh: float
    neg_iou_thresh: float
    freeze_blocks: tuple[int, ...]  #: ids of the backbone's blocks, counted from the input on
    freeze_bn: bool


@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """``training_config.optimizer``: the method and its parameters under their names in the file."""

    name: Literal["sgd", "adam", "rmsprop"]
    parameters: Mapping[str, float | bool]


@dataclass(frozen=True, slots=True)
class EarlyStoppingSettings:
    """``training_config.early_stopping``: stop after ``patience`` epochs without a fall by ``min_delta``."""

    monitor: str  #: ``loss`` or ``validation_loss``
    min_delta: float
    patience: int


@dataclass(frozen=True, slots=True)
class CostScalingSettings:
    """``training_config.cost_scaling``, where enabled: the loss of mixed precision is multiplied by 2^exponent."""

    initial_exponent: float
    increment: float  #: added to the exponent after each step with finite gradients
    decrement: (
        float  #: taken from the exponent after a step whose gradients overflowed; that step is left out
    )


@dataclass(frozen=True, slots=True)
class LoadModelSettings:
    """The model that ``training_config`` names to start from; ``-m`` on the command line goes before it."""

    kind: Literal["resume", "pretrain", "pruned"]
    path: str  #: as written, usually a container path


class Secret:
    """A text that is never shown: neither ``repr`` nor ``str`` have it, and two of them count as equal.

    The equality keeps fingerprints and comparisons of settings from depending on a key, or giving it away.

    Parameters
    ----------
    text
        The secret itself; :meth:`reveal` returns it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret, to hand it to the service that it belongs to."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret)

    def __hash__(self) -> int:
        return hash(Secret)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> str | tuple[object, ...]:
        # A pickle goes to a file or to a process that loads data; neither needs the secret.
        return (Secret, ("",))


@dataclass(frozen=True, slots=True)
class WandBSettings:
    """``visualizer.wandb_config``, where it is enabled: Weights & Biases."""

    key: Secret | None  #: None = the person is logged in, or WANDB_API_KEY is set
    project: str
    entity: str | None  #: None = the person's own
    reinit: bool
    name: str | None  #: None = the run's name
    tags: tuple[str, ...]
    wandb_dir: str | None  #: as written; None = the results folder
    notes: str | None
    mode: Literal["online", "offline"] | None  #: None = as WANDB_MODE says, online without it


@dataclass(frozen=True, slots=True)
class ClearMLSettings:
    """``visualizer.clearml_config``: ClearML. The block alone switches it on."""

    project: str
    task: str | None  #: None = the run's name
    tags: tuple[str, ...]
    reuse_last_task_id: bool
    continue_last_task: bool
    deferred_init: bool


@dataclass(frozen=True, slots=True)
class VisualizerSettings:
    """``training_config.visualizer``: what goes to TensorBoard and to experiment trackers."""

    enabled: bool  #: TensorBoard; the trackers have switches of their own
    num_images: int
    weight_histograms: bool
    wandb: WandBSettings | None = None
    clearml: ClearMLSettings | None = None


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """``training_config``."""

    batch_size_per_gpu: int
    num_epochs: int
    min_learning_rate: float
    max_learning_rate: float
    soft_start: float  #: fraction of the training at which the learning rate reaches its maximum
    annealing: float  #: fraction of the training at which it starts to fall
    regularizer: Literal["NO_REG", "L1", "L2"]
    regularizer_weight: float
    optimizer: OptimizerSettings
    checkpoint_interval: int  #: epochs, at least 1
    early_stopping: EarlyStoppingSettings | None
    visualizer: VisualizerSettings | None
    max_queue_size: int  #: batches prepared ahead
    n_workers: int | None  #: None = let the engine choose
    use_multiprocessing: (
        bool  #: prepare batches in processes in place of threads; --use_multiprocessing does so too
    )
    enable_qat: bool  #: quantisation-aware training
    cost_scaling: CostScalingSettings | None  #: None = PyTorch's own rule for mixed precision
    model_ema: bool  #: validate and save an exponential moving average of the weights
    load_model: LoadModelSettings | None


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """``eval_config``."""

    validation_period: int  #: epochs between validations
    average_precision_mode: Literal["SAMPLE", "INTEGRATE"]
    batch_size: int
    matching_iou_threshold: float
    visualize_pr_curve: bool


@dataclass(frozen=True, slots=True)
class NMSSettings:
    """``nms_config``."""

    confidence_threshold: float
    clustering_iou_threshold: float
    top_k: int
    infer_nms_score_bits: int  #: handed on to the exported NMS node; 0 = plain NMS


@dataclass(frozen=True, slots=True)
class AugmentationSettings:
    """``augmentation_config``: the network's input size, and the random changes of the training images."""

    output_width: int
    output_height: int
    output_channel: int  #: 3 = colour, 1 = grey
    random_crop_min_scale: float
    random_crop_max_scale: float
    random_crop_min_ar: float  #: aspect ratio (width / height) of the crop
    random_crop_max_ar: float
    zoom_out_min_scale: float
    zoom_out_max_scale: float
    brightness: int  #: largest change, in grey levels of 255
    contrast: float
    saturation: float
    hue: int  #: largest change, in OpenCV's half degrees (0 to 179)
    random_flip: float  #: probability of a horizontal flip
    image_mean: tuple[float, ...] | None  #: (b, g, r) or (l,), grey levels; None = the pipeline's own default


@dataclass(frozen=True, slots=True)
class DataSource:
    """One entry of ``data_sources`` or ``validation_data_sources``, with the paths as written."""

    tfrecords_path: str | None  #: a glob pattern
    label_directory_path: str | None
    image_directory_path: str | None


@dataclass(frozen=True, slots=True)
class DatasetSettings:
    """``dataset_config``."""

    data_sources: tuple[DataSource, ...]  #: all TFRecords, or all folders of images and labels
    validation_data_sources: tuple[DataSource, ...]  #: folders of images and labels only
    class_mapping: Mapping[str, str]  #: lower-cased class in the labels -> lower-cased class of the network
    classes: tuple[str, ...]  #: sorted; the class id is the index plus 1, 0 is the background
    include_difficult: bool


@dataclass(frozen=True, slots=True)
class SSDExperiment:
    """An experiment file with all defaults applied. Blocks that the file does not have are ``None``.

    Parameters
    ----------
    path, text
        The file as the person named it, and what it says.
    random_seed
        Seed of every random choice; each further process adds its rank.
    notes
        What a reader of the file should know: extensions in use, fields without effect, zeros read as a
        default.
    """

    path: str
    text: str
    random_seed: int
    model: SSDModelSettings
    training: TrainingSettings | None
    evaluation: EvaluationSettings | None
    nms: NMSSettings | None
    augmentation: AugmentationSettings | None
    dataset: DatasetSettings | None
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return the experiment as it will run, defaults included, for people to read.

        Returns
        -------
        str
            Several lines; extension fields are marked, notes come last.
        """
        from taomagic.spec.summary import summarize

        return summarize(self)

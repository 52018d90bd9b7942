"""What the notebook of a network has different from the rule of its path family: a row a network.

Places are templates: ``{project}``, ``{notebook}``, ``{home}``, ``{repository}``, and the value of any variable in
front of it, by its name. In the columns of family B, ``{net}`` is the experiment's folder.

Source: the variables and maps of the 57 notebooks of TAO 5.5 that write one, of six that came with TAO 6 and 7, and of
the Colab edition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from taomagic.project.paths import CONTAINER_ROOT, OTHER_ROOT

Family = Literal["a", "b", "c"]
#: What folders hold, in the words that people are shown.
FOLDER_KINDS = (
    "project",
    "notebooks",
    "data",
    "experiment",
    "specs",
    "data specs",
    "model specs",
    "model",
    "results",
    "cache",
)


@dataclass(frozen=True)
class Folder:
    """A folder, on both sides.

    Parameters
    ----------
    what
        What it holds, one of :data:`FOLDER_KINDS`.
    host, source
        The variable on this machine (empty: none) and its place, a template.
    container, destination
        The variable in the container (empty: none) and its place; empty where there is no container.
    mounted
        Whether it has a mount of its own; otherwise it gets one only where no other mount covers it.
    """

    what: str
    host: str
    source: str
    container: str = ""
    destination: str = ""
    mounted: bool = True


@dataclass(frozen=True)
class Row:
    """What the notebook of a network has different from the rule of its family.

    Parameters
    ----------
    family
        The family.
    of
        The network, where this is one of its several notebooks.
    also
        Other names: of the notebook, or of its folder.
    folder
        The experiment's folder in the project, where it isn't the row's name.
    data, data_variable, data_at, data_mounted
        Where the data lies in the project; its variable and place in the container; whether it has a mount of its own.
    project_at, specs_at
        Where project and specs lie in the container.
    results, results_at
        Family B: where results lie in the project and in the container.
    model
        Family B: where models lie in the project; empty where nothing is mounted as ``/model``.
    more
        Further folders.
    key
        ``KEY``; empty: that of the family.
    constants
        Further variables.
    envs
        ``Envs`` of the map.
    docker
        What of ``DockerOptions`` there is: ``user`` (that of the caller), ``host`` (the network); ``None``: as in the
        family.
    shm_size
        Family B: the shared memory.
    """

    family: Family = "a"
    of: str = ""
    also: tuple[str, ...] = ()
    folder: str = ""
    data: str = "data"
    data_variable: str = ""
    data_at: str = ""
    data_mounted: bool = False
    project_at: str = CONTAINER_ROOT
    specs_at: str = ""
    results: str = ""
    results_at: str = "/results"
    model: str = ""
    more: tuple[Folder, ...] = ()
    key: str = ""
    constants: Mapping[str, str] = field(default_factory=dict)
    envs: Mapping[str, str] = field(default_factory=dict)
    docker: tuple[str, ...] | None = None
    shm_size: str = "16G"


# Two spellings of one thing.
_CACHE = Folder("cache", "", "~/.cache", "", "/.cache")


_NAMED_CACHE = Folder("cache", "LOCAL_CACHE_DIR", "{home}/.cache", "", "/.cache")


def _b(**different: Any) -> Row:
    return Row("b", **different)


#: Network or notebook -> what deviates.
TABLE: Mapping[str, Row] = {
    # --- family A
    "detectnet_v2": Row(key="tlt_encode"),
    "ssd": Row(),
    "dssd": Row(),
    "retinanet": Row(),
    "mask_rcnn": Row(),
    "faster_rcnn": Row(envs={"CUDA_VISIBLE_DEVICES": "{GPU_INDEX}"}, docker=()),
    "yolo_v3": Row(docker=()),
    "yolo_v4": Row(docker=()),
    "yolo_v4_16bit_grayscale": Row(of="yolo_v4", docker=()),
    "yolo_v4_tiny": Row(docker=()),
    "unet": Row(
        also=("unet_isbi",), docker=(), constants={"PROJECT_DIR": "/workspace/iva/ngc-collaterals/cv/samples"}
    ),
    "classification": Row(),
    "classification_tf1": Row(),
    "classification_tf2": Row(specs_at="{USER_EXPERIMENT_DIR}/tao_voc/specs"),
    "byom_classification": Row(
        of="classification_tf2",
        also=("byom_voc",),
        folder="classification_tf2",
        specs_at="{USER_EXPERIMENT_DIR}/byom_voc/specs",
    ),
    "classification_16bit": Row(of="classification_tf2", specs_at="{USER_EXPERIMENT_DIR}/tao_voc/specs"),
    "efficientdet": Row(docker=("user", "host")),
    "efficientdet_tf1": Row(docker=("user", "host")),
    "efficientdet_tf2": Row(docker=("user", "host")),
    "lprnet": Row(data="data/openalpr"),
    "multitask_classification": Row(
        data="data/myntradataset", specs_at=f"{CONTAINER_ROOT}/classification/specs"
    ),
    "pointpillars": Row(data="data/pointpillars", key="tlt_encode", docker=()),
    "bpnet": Row(
        data="bpnet/data",
        data_variable="DATA_DIR",
        specs_at="/workspace/examples/bpnet/specs",
        more=(
            Folder(
                "data specs",
                "LOCAL_DATA_POSE_SPECS_DIR",
                "{notebook}/data_pose_config",
                "DATA_POSE_SPECS_DIR",
                "/workspace/examples/bpnet/data_pose_config",
            ),
            Folder(
                "model specs",
                "LOCAL_MODEL_POSE_SPECS_DIR",
                "{notebook}/model_pose_config",
                "MODEL_POSE_SPECS_DIR",
                "/workspace/examples/bpnet/model_pose_config",
            ),
        ),
    ),
    "emotionnet": Row(
        data="emotionnet/orgData",
        more=(
            Folder(
                "data specs",
                "LOCAL_DATASET_SPECS_DIR",
                "{notebook}/dataset_specs",
                "DATASET_SPECS_DIR",
                "{USER_EXPERIMENT_DIR}/dataset_specs",
            ),
        ),
        docker=(),
    ),
    "facenet": Row(data="facenet/data", docker=()),
    "fpenet": Row(
        data="fpenet/data",
        data_variable="DATA_DIR",
        data_mounted=True,
        constants={"NUM_KEYPOINTS": "80", "PROJECT_DIR": CONTAINER_ROOT},
        docker=(),
    ),
    "gazenet": Row(data="gazenet/data", docker=()),
    "gesturenet": Row(data="gesturenet/data", docker=()),
    "heartratenet": Row(data="heartratenet/data", data_variable="HEARTRATENET_DATA", docker=()),
    # --- family B; a network that isn't here mounts data and NET/results, with `user` and the host's network
    "deformable_detr": _b(),
    "dino": _b(also=("dino_distillation",)),
    "rtdetr": _b(),
    "grounding_dino": _b(also=("finetune_grounding_dino",), more=(_CACHE,), shm_size="64G"),
    "mask_grounding_dino": _b(more=(_CACHE,), shm_size="64G"),
    "retail_object_detection": _b(model="{net}/models"),
    "synthetic_object_detection": _b(
        of="retail_object_detection", folder="synthetic_dino", data="data/synthetic_dino"
    ),
    "retail_object_recognition": _b(folder="ml_recognition", model="{net}/models", docker=()),
    "ml_recog": _b(
        also=("metric_learning_recognition",), folder="ml_recognition", model="{net}/models", docker=()
    ),
    "centerpose": _b(also=("centerpose_synthetic",), data="data/centerpose"),
    "bevfusion": _b(
        data="data/bevfusion",
        more=(_NAMED_CACHE,),
        envs={"TAO_TOOLKIT_CACHE": "/.cache"},
    ),
    "stylegan_xl": _b(
        data="{net}/data", more=(_NAMED_CACHE,), envs={"TAO_TOOLKIT_CACHE": "/.cache"}, docker=("host",)
    ),
    "sparse4d": _b(model="data/{net}/model", docker=("host",)),
    "cosmos_embed1": _b(data="data/msrvtt", model="{net}", shm_size="64G", docker=("host",)),
    "clip": _b(data="data/{net}", results="clip_results", docker=()),
    "nvdinov2": _b(
        also=("nvdinov2_cats",),
        project_at=OTHER_ROOT,
        data_at=f"{OTHER_ROOT}/data",
        specs_at=f"{OTHER_ROOT}/specs",
        results="results",
        results_at=f"{OTHER_ROOT}/results",
        more=(
            Folder(
                "model",
                "HOST_MODEL_DIR",
                "{project}/model",
                "MODEL_DIR",
                f"{OTHER_ROOT}/model",
                mounted=False,
            ),
        ),
        docker=(),
    ),
    "ocdnet": _b(data="data/ocdnet", data_at="/data/ocdnet"),
    "ocdnet_vit": _b(of="ocdnet", data="data/ocdnet_vit", data_at="/data/ocdnet_vit"),
    "ocrnet": _b(also=("ocrnet_vit",), data="data/ocrnet", results="{net}", docker=()),
    "mal": _b(results="{net}", docker=("host",)),
    "mask2former": _b(results="{net}", docker=("host",)),
    "mask2former_inst": _b(
        of="mask2former", folder="mask2former", results="{net}", results_at="/results_inst", docker=("host",)
    ),
    "action_recognition": _b(
        also=("action_recognition_net",),
        folder="actionrecognitionnet",
        data="data/{net}",
        results="{net}",
        docker=(),
    ),
    "pose_classification": _b(
        also=("pose_classification_net",),
        folder="poseclassificationnet",
        data="data/{net}",
        results="{net}",
        constants={"PROJECT_DIR": "{project}"},
        docker=(),
    ),
    "re_identification": _b(
        also=("re_identification_net", "reidentificationnet_resnet", "reidentificationnet_swin"),
        folder="reidentificationnet",
        data="data/{net}",
        results="{net}",
        model="data/{net}/model",
        docker=(),
    ),
    "classification_pyt": _b(results="{net}", constants={"PROJECT_DIR": "{project}"}, docker=()),
    "classification_pyt_fm_ft": _b(
        of="classification_pyt",
        folder="cls_pyt_fm",
        data="",
        results="{net}",
        constants={"PROJECT_DIR": "{project}"},
        docker=(),
    ),
    "optical_inspection": _b(data="data/{net}", model="{net}/model", docker=()),
    "segformer": _b(data="data/segformer", results="{net}", docker=()),
    "visual_changenet": _b(
        also=("visual_changenet_segmentation", "visual_changenet_segmentation_mvtec"),
        folder="changenet",
        data="data/{net}",
        model="{net}/model",
        docker=(),
    ),
    "visual_changenet_classification": _b(
        of="visual_changenet",
        folder="changenet-classify",
        data="data/{net}",
        model="{net}/model",
        docker=(),
    ),
}

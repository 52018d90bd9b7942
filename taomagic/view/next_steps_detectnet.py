"""What makes sense after a stage of DetectNet_v2, with the folders and files of NVIDIA's notebook.

Its spec for retraining names the pruned model, so that what is pruned has to be written there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

Step = tuple[str, str]

_TASK = "%tao detectnet_v2"
_PRETRAINED = re.compile(r'^\s*pretrained_model_file\s*:\s*"([^"\n]{1,500})"', re.MULTILINE)
_NETWORK = re.compile(r"(?:resnet|vgg|darknet)\d{1,3}")
#: The threshold of NVIDIA's notebook, after a long training whose regulariser makes weights that small; and the one of
#: the sample notebook, after a short training.
_THRESHOLD, _SAMPLE_THRESHOLD = "0.0000052", "0.78"


def steps(subtask: str, spec: str, model: str, environ: Mapping[str, str]) -> list[Step]:
    """Return ``(what it does, command)`` for what makes sense after a stage that succeeded.

    Parameters
    ----------
    subtask
        What ended.
    spec, model
        Its experiment file and the model that it wrote or read, as container paths; empty where there is none.
    environ
        Where the path variables are.
    """
    specs = _Specs(environ)
    kind = _kind_of(spec)
    found: list[Step] = []
    match subtask:
        case "dataset_convert":
            title = "Train with these records"
            found = [_train(title, specs.named("train"), "experiment_dir_unpruned", "")]
        case "prune" if model:
            title, retrain = "Train the smaller model again", specs.named("retrain")
            found = [
                _evaluate(specs.named("train"), model),
                _train(title, retrain, "experiment_dir_retrain", "_pruned"),
            ]
        case "train" if model and kind == "train":
            found = [_evaluate(spec, model), _prune(spec, model, specs), _export(spec, model)]
        case "train" if model:
            found = [_evaluate(spec, model), _inference(specs, model, kind), _export(spec, model)]
            if kind == "retrain":
                title, qat = "Train it with quantisation in mind", specs.named("retrain", "_qat")
                found.insert(2, _train(title, qat, "experiment_dir_retrain_qat", "_pruned_qat"))
        case "evaluate" if model.endswith((".tlt", ".hdf5")):
            whole = kind == "train" and "prune" not in model
            found = [
                _prune(spec, model, specs) if whole else _inference(specs, model, kind),
                _export(spec, model),
            ]
        case "export" if model.endswith((".onnx", ".etlt")):
            found = [_engine(spec, model)]
    return found


class _Specs:
    """The experiment files of the notebook, found in ``LOCAL_SPECS_DIR``."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._folder = Path(environ.get("LOCAL_SPECS_DIR") or "/nonexistent")

    def named(self, kind: str, end: str = "") -> str:
        """Return the container path of the file for a purpose; ``SPEC`` where there is none."""
        path = self._find(kind, end)
        return f"$SPECS_DIR/{path.name}" if path is not None else "SPEC"

    def pruned_model(self) -> str:
        """Return the model that the spec for retraining begins with; empty where none is named."""
        path = self._find("retrain", "")
        try:
            found = _PRETRAINED.search(path.read_text("utf-8", "replace")) if path is not None else None
        except OSError:
            return ""
        return found[1] if found else ""

    def _find(self, kind: str, end: str) -> Path | None:
        try:
            found = sorted(self._folder.glob(f"detectnet_v2_{kind}_*{end}.txt"))
        except OSError:
            return None
        return next((path for path in found if path.stem.endswith("_qat") == (end == "_qat")), None)


def _kind_of(spec: str) -> str:
    """Return what a training's spec is for, told by its name: ``train``, ``retrain`` or ``qat``."""
    name = PurePosixPath(spec).stem
    if name.endswith("_qat"):
        return "qat"
    return "retrain" if "retrain" in name else "train"


def _detector(spec: str) -> str:
    """Return what NVIDIA's notebook calls the model of a spec: ``resnet18_detector``."""
    found = _NETWORK.search(PurePosixPath(spec).name)
    return f"{found[0] if found else 'resnet18'}_detector"


def _train(title: str, spec: str, folder: str, end: str) -> Step:
    name = f"{_detector(spec)}{end}"
    return title, f"{_TASK} train -e {spec} -r $USER_EXPERIMENT_DIR/{folder} -n {name} -k $KEY"


def _evaluate(spec: str, model: str) -> Step:
    return "Evaluate this model", f"{_TASK} evaluate -e {_word(spec) or 'SPEC'} -m {_word(model)} -k $KEY"


def _prune(spec: str, model: str, specs: _Specs) -> Step:
    network = _detector(spec).removesuffix("_detector")
    name = f"{network}_nopool_bn_detectnet_v2_pruned{PurePosixPath(model).suffix}"
    threshold = _SAMPLE_THRESHOLD if PurePosixPath(spec).stem.endswith("_sample") else _THRESHOLD
    target = specs.pruned_model() or f"$USER_EXPERIMENT_DIR/experiment_dir_pruned/{name}"
    return (
        "Prune it",
        f"{_TASK} prune -m {_word(model)} -o {_word(target)} -eq union -pth {threshold} -k $KEY",
    )


def _inference(specs: _Specs, model: str, kind: str) -> Step:
    spec = specs.named("inference", "_tlt")
    folder = f"$USER_EXPERIMENT_DIR/tlt_infer_testing{'_qat' if kind == 'qat' else ''}"
    images = "$DATA_DOWNLOAD_DIR/test_samples"
    return (
        "Detect objects in images",
        f"{_TASK} inference -e {spec} -m {_word(model)} -i {images} -r {folder} -k $KEY",
    )


def _export(spec: str, model: str) -> Step:
    qat = "_qat" if _kind_of(spec) == "qat" else ""
    onnx = f"$USER_EXPERIMENT_DIR/experiment_dir_final/{_detector(spec)}{qat}.onnx"
    words = f"{_TASK} export -m {_word(model)} -e {_word(spec) or 'SPEC'} -o {onnx} --gen_ds_config -k $KEY"
    return "Export it for other programs", words


def _engine(spec: str, model: str) -> Step:
    engine = PurePosixPath(model).with_suffix(".trt")
    words = (
        f"%tao deploy detectnet_v2 gen_trt_engine -m {_word(model)} -e {_word(spec) or 'SPEC'} "
        f"-r {_word(str(engine.parent))} --engine_file {_word(str(engine))} -k $KEY"
    )
    return "Build an engine from it", words


def _word(text: str) -> str:
    return text if text.startswith("$") else shlex.quote(text) if text else ""

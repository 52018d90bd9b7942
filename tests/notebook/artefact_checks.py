"""What a notebook left, proved by what it is good for: weights load, models infer, labels parse. For both networks.

Each function takes paths of this machine, fails with an assertion or with the error of whoever reads the file, and
returns what else a test may want to look at. Nothing here knows a notebook.
"""

from __future__ import annotations

import configparser
import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from PIL import Image

from taomagic.engine.converter.calibration_cache import read_cache, read_scales
from taomagic.engine.converter.engine_file import is_engine, open_engine, read_exported
from taomagic.engine.data.kitti import read_labels
from taomagic.engine.data.tensorfile import read_batches
from taomagic.engine.data.tfrecord import parse_example, read_records
from taomagic.engine.detectnet_v2 import weights as detectnet_v2_weights
from taomagic.engine.ssd import weights as ssd_weights
from taomagic.engine.storage.model_file import ModelFile
from taomagic.errors import ModelFileProblem

_NETWORKS: dict[str, ModuleType] = {"ssd": ssd_weights, "detectnet_v2": detectnet_v2_weights}
#: The outputs that programs for these networks ask for by name.
OUTPUTS = {"ssd": {"NMS", "NMS_1"}, "detectnet_v2": {"output_cov/Sigmoid", "output_bbox/BiasAdd"}}


def weights(path: Path, network: str, key: str = "") -> ModelFile:
    """A checkpoint that the network's own code loads, with finite weights; with a key only that key opens it."""
    model, file = _NETWORKS[network].model_from_file(path, key)
    assert all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values()), path
    assert sum(tensor.numel() for tensor in model.parameters()) > 1000
    if path.suffix == ".tlt":
        assert key, "a .tlt has a key"
        _only_this_key(lambda other: _NETWORKS[network].model_from_file(path, other))
    return file  # type: ignore[no-any-return]


def exported(path: Path, network: str, size: tuple[int, int], key: str = "") -> onnx.ModelProto:
    """An ONNX model, encrypted in ``.etlt``, that the checker passes and that maps an image to finite outputs."""
    assert not is_engine(path)
    content = read_exported(path, key)
    if path.suffix == ".etlt":
        assert path.read_bytes() != content, "an .etlt is encrypted"
        _only_this_key(lambda other: read_exported(path, other))
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    (given,) = model.graph.input
    shape = [axis.dim_value for axis in given.type.tensor_type.shape.dim]
    assert shape[1:] == [3, size[1], size[0]], shape
    _infers(path, network, size, key)
    return model


def engine(path: Path, network: str, size: tuple[int, int], precision: str, batch: int = 1) -> dict[str, Any]:
    """An engine of that precision, for up to ``batch`` images, that maps them to finite outputs."""
    assert is_engine(path)
    metadata = _infers(path, network, size, "", batch)
    assert metadata["precision"] == precision
    assert metadata["batch"]["max"] >= batch
    assert metadata["input_shape"] == [3, size[1], size[0]]
    return metadata


def _infers(path: Path, network: str, size: tuple[int, int], key: str, batch: int = 1) -> dict[str, Any]:
    opened = open_engine(path, key)
    outputs = opened.run(np.zeros((batch, 3, size[1], size[0]), np.float32))
    assert {name.removesuffix(":0") for name in outputs} == OUTPUTS[network]
    for name, values in outputs.items():
        assert values.size > 0, name
        assert np.isfinite(values).all(), name
    return opened.metadata


def _only_this_key(opens: Any) -> None:
    try:
        opens("another key")
    except ModelFileProblem:
        return
    raise AssertionError("any key opens it")


def calibration_cache(path: Path) -> dict[str, float]:
    """TensorRT's calibration cache, with a range for each of several tensors."""
    ranges = read_cache(path)
    assert len(ranges) > 3
    assert all(0 < limit < math.inf for limit in ranges.values())
    return ranges


def tensor_scales(path: Path) -> dict[str, float]:
    """The ranges that a quantisation-aware training learned."""
    scales = read_scales(path)
    assert len(scales) > 3
    return scales


def tensor_file(path: Path, size: tuple[int, int], batches: int, batch_size: int) -> None:
    """Preprocessed images for a calibration."""
    shapes = [batch.shape for batch in read_batches(path)]
    assert shapes == [(batch_size, 3, size[1], size[0])] * batches


def label_files(folder: Path, count: int, classes: Sequence[str]) -> int:
    """KITTI labels of detections, 16 fields a line with the confidence last; a file may be empty. Returns objects."""
    files = sorted(folder.glob("*.txt"))
    assert len(files) == count, folder
    return sum(_detections(file, classes) for file in files)


def _detections(path: Path, classes: Sequence[str]) -> int:
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for row in rows:
        assert len(row) == 16, (path, row)
        assert row[0] in classes, (path, row)
        x1, y1, x2, y2 = map(float, row[4:8])
        assert x1 <= x2, (path, row)
        assert y1 <= y2, (path, row)
        assert float(row[15]) >= 0, (path, row)
    return len(rows)


def training_labels(folder: Path) -> int:
    """KITTI labels to learn from, 15 fields a line; returns the number of objects."""
    found = sum(len(read_labels(file).names) for file in sorted(folder.glob("*.txt")))
    assert found
    return found


def pictures(folder: Path, count: int) -> None:
    """Images that open, each of more than one colour."""
    files = sorted(
        file for file in folder.iterdir() if file.suffix.lower() in {".png", ".jpg", ".jpeg", ".ppm"}
    )
    assert len(files) == count, folder
    for file in files:
        with Image.open(file) as image:
            lowest_highest = image.convert("L").getextrema()
        assert lowest_highest[0] != lowest_highest[1], file


def annotated(folder: Path, originals: Path) -> None:
    """A picture for each original, of its name and size."""
    wanted = {file.stem: file for file in originals.iterdir()}
    pictures(folder, len(wanted))
    for file in folder.iterdir():
        with Image.open(file) as image, Image.open(wanted[file.stem]) as original:
            assert image.size == original.size, file


def nvinfer_config(path: Path, model: str, size: tuple[int, int], labels: Sequence[str]) -> dict[str, str]:
    """DeepStream's settings for a model beside them, and the labels that they name."""
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # nvinfer's keys have one spelling
    parser.read_string("[property]\n" + path.read_text(encoding="utf-8"))
    settings = dict(parser["property"])
    # What only taomagic decrypts is named in a comment.
    if model.endswith(".onnx"):
        assert settings["onnx-file"] == model
    else:
        assert "onnx-file" not in settings
    assert settings["infer-dims"] == f"3;{size[1]};{size[0]}"
    assert int(settings["num-detected-classes"]) == len(labels)
    assert float(settings["net-scale-factor"]) > 0
    assert len(settings["offsets"].split(";")) == 3
    assert (path.parent / settings["labelfile-path"]).read_text(encoding="utf-8").split() == list(labels)
    return settings


def metrics(path: Path, classes: Sequence[str]) -> dict[str, float]:
    """``results.json`` of an evaluated engine: an average precision for each class and their mean, shares of 1."""
    found = json.loads(path.read_text(encoding="utf-8"))
    assert {f"AP_{name}" for name in classes} <= set(found), found
    assert "mAP" in found, found
    assert all(0 <= found[name] <= 1 for name in found if name.startswith(("AP_", "mAP"))), found
    return {name: float(value) for name, value in found.items() if isinstance(value, (int, float))}


def status(path: Path) -> list[dict[str, Any]]:
    """``status.json`` in which every record is JSON, and the last one says that the command succeeded."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert all({"date", "time", "status", "verbosity", "message"} <= set(record) for record in records)
    assert records[-1]["status"] == "SUCCESS", records[-1]
    return records


def tfrecords(folder: Path, pattern: str, files: int) -> int:
    """That many files of records with whole checksums, each an image with labels; returns the number of records."""
    found = sorted(folder.glob(pattern))
    assert len(found) == files, [path.name for path in found]
    records = 0
    for path in found:
        for offset, record in read_records(path):
            features = parse_example(record, path.name, offset).features.feature
            assert {"frame/id", "frame/height", "frame/width", "target/object_class"} <= set(features)
            assert features["frame/height"].int64_list.value[0] > 0
            records += 1
    assert records
    return records

"""Make the golden files, once for each version of the formats:  python -m tests.engine.storage.golden

They are kept as they are, to prove that later versions read what this one wrote. Making them anew is right only when
the format was raised on purpose; the old ones then stay beside the new ones.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from taomagic.engine.backbones.base import keras_name
from taomagic.engine.detectnet_v2 import onnx_export as detectnet_onnx
from taomagic.engine.detectnet_v2 import weights as detectnet_weights
from taomagic.engine.detectnet_v2.model import Architecture as DetectNetArchitecture
from taomagic.engine.detectnet_v2.model import DetectNet
from taomagic.engine.ssd import onnx_export as ssd_onnx
from taomagic.engine.ssd import weights as ssd_weights
from taomagic.engine.ssd.model import SSD, Architecture
from taomagic.engine.storage.model_file import write_onnx
from taomagic.spec.settings import NMSSettings
from tests.engine.export.export_cases import ANCHORS, experiment

FOLDER = Path(__file__).parent / "golden" / "v1"
KEY = "golden 钥匙"
CLASSES = ("car", "行人")


def images(shape: tuple[int, int, int]) -> np.ndarray:
    """Return two images that are the same on every machine."""
    count = 2 * int(np.prod(shape))
    return ((np.arange(count, dtype=np.float32) * 37 % 101) / 101).reshape(2, *shape)


def _small(build: type[Any], architecture: Any) -> nn.Module:
    """Return the network with one channel a layer, and weights that are no accident."""
    layers = [name for name, m in build(architecture).named_modules() if isinstance(m, nn.Conv2d)]
    names = {keras_name(name): 1 for name in layers if not name.startswith("heads.")}
    model: nn.Module = build(replace(architecture, channels=names))
    for number, tensor in enumerate(model.parameters()):
        values = (torch.arange(tensor.numel()) * 1.7 + number).sin() * 0.4 + (
            0.5 if tensor.ndim == 1 else 0.0
        )
        tensor.data = values.reshape(tensor.shape).float()
    return model.eval()


def networks() -> dict[str, nn.Module]:
    """Return both networks, as small as they get."""
    grid = DetectNetArchitecture("resnet", 10, 1.0, (3, 32, 48), CLASSES, True, False, 35.0, 0.5)
    return {
        "ssd": _small(SSD, Architecture("resnet", 10, 1.0, (3, 48, 64), CLASSES, ANCHORS)),
        "detectnet_v2": _small(DetectNet, grid),
    }


def outputs(model: nn.Module) -> list[list[float]]:
    """Return the first numbers of each output."""
    shape = model.architecture.input_shape  # type: ignore[union-attr]
    with torch.inference_mode():
        found = model(torch.from_numpy(images(shape)))
    return [[round(float(value), 5) for value in each.flatten()[:8]] for each in found]


def main() -> None:
    """Write the files, and what they have to give."""
    FOLDER.mkdir(parents=True)
    expected: dict[str, Any] = {}
    for task, model in networks().items():
        optimizer = {"step": 7, "moments": [torch.ones(3)]}
        if task == "ssd":
            ssd_weights.save(FOLDER / "ssd.tlt", model, KEY, epoch=3, optimizer=optimizer)
            exported = ssd_onnx.export_onnx(model, experiment(NMSSettings(0.01, 0.5, 5, 0)))
        else:
            detectnet_weights.save(FOLDER / "detectnet_v2.tlt", model, KEY, epoch=3, optimizer=optimizer)
            exported = detectnet_onnx.export_with_scales(model).model
        write_onnx(FOLDER / f"{task}.etlt", exported, KEY)
        write_onnx(FOLDER / f"{task}.onnx", exported)
        expected[task] = outputs(model)
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1))


if __name__ == "__main__":
    main()

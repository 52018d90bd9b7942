"""Files that an earlier version wrote stay readable, and give the numbers that they gave then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from taomagic.engine.converter.engine_file import open_engine
from taomagic.engine.detectnet_v2.weights import model_from_file as detectnet_from_file
from taomagic.engine.key.check import report
from taomagic.engine.ssd.weights import model_from_file as ssd_from_file
from taomagic.engine.storage.model_file import read_onnx

from . import golden

READERS = {"ssd": ssd_from_file, "detectnet_v2": detectnet_from_file}
OUTPUTS = {"ssd": ("NMS", "NMS_1"), "detectnet_v2": ("output_bbox/BiasAdd", "output_cov/Sigmoid")}


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    values: dict[str, Any] = json.loads((golden.FOLDER / "expected.json").read_text())
    return values


def file(task: str, suffix: str) -> Path:
    return golden.FOLDER / f"{task}{suffix}"


@pytest.mark.parametrize("task", READERS)
def test_a_checkpoint_gives_its_network_epoch_and_optimizer(task: str, expected: dict[str, Any]) -> None:
    model, content = READERS[task](file(task, ".tlt"), golden.KEY)
    assert content.epoch == 3
    assert content.optimizer is not None
    assert content.optimizer["step"] == 7
    assert torch.equal(content.optimizer["moments"][0], torch.ones(3))
    assert model.architecture.classes == golden.CLASSES
    for found, wanted in zip(golden.outputs(model.eval()), expected[task], strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("task", READERS)
def test_an_export_runs_encrypted_and_plain(task: str, expected: dict[str, Any]) -> None:
    assert read_onnx(file(task, ".etlt"), golden.KEY) == file(task, ".onnx").read_bytes()
    engine = open_engine(file(task, ".onnx"))
    assert engine.metadata["classes"] == list(golden.CLASSES)
    assert engine.outputs == OUTPUTS[task]
    found = engine.run(golden.images(tuple(engine.metadata["input_shape"])))
    if task == "detectnet_v2":
        coverage, boxes = (found[name].flatten()[:8] for name in reversed(OUTPUTS[task]))
        np.testing.assert_allclose(coverage, expected[task][0], atol=1e-4)
        np.testing.assert_allclose(boxes, expected[task][1], atol=1e-4)
    else:
        assert found["NMS"].shape == (2, 1, 5, 7)


@pytest.mark.parametrize("name", ["ssd.tlt", "ssd.etlt", "detectnet_v2.tlt", "detectnet_v2.etlt"])
def test_the_key_opens_every_one_of_them(name: str) -> None:
    assert report(golden.FOLDER / name, golden.KEY)[1] == "The key opens it, and it is whole."


def test_a_network_of_today_is_described_as_it_was() -> None:
    # What is stored for a network must stay enough to build it: a new field needs a default.
    for task, model in golden.networks().items():
        stored, content = READERS[task](file(task, ".tlt"), golden.KEY)
        assert stored.architecture == model.architecture
        assert content.architecture is not None
        own = model.state_dict()
        assert all(torch.allclose(own[name], tensor) for name, tensor in content.weights.items())

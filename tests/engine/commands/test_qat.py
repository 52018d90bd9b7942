"""Quantisation-aware training through the commands: train, prune, retrain, evaluate, export with the scales."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from taomagic.engine.storage.model_file import load_model

from .conftest import KEY, ROOT, Project

QAT = {"batch_size_per_gpu: 5": "batch_size_per_gpu: 5 enable_qat: true", "num_epochs: 3": "num_epochs: 2"}
FLOAT = {"num_epochs: 3": "num_epochs: 1"}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def prune(project: Project, model: str, target: str) -> None:
    words = ("ssd", "prune", "-m", model, "-o", target, "-pth", "0.9", "-nf", "4", "-pg", "4", "-k", KEY)
    done = project.run(*words)
    assert done.code == 0, done.output


def test_a_quantisation_aware_model_is_trained_pruned_retrained_evaluated_and_exported(project: Project):
    spec = project.spec("qat.txt", replace=QAT)
    trained = project.train("qat", spec=spec)
    assert trained.code == 0, trained.output
    assert "quantisation-aware, 8 bits: 21 kernels and 34 activations" in trained.output

    pruned = f"{ROOT}/qat/pruned.tlt"
    prune(project, project.weights("qat", 2), pruned)
    again = project.train("again", "-m", pruned, spec=spec)
    assert again.code == 0, again.output
    assert "is pruned: its channels are used" in again.output
    last = project.weights("again", 2)
    file = load_model(project.path(last), KEY)
    assert file.architecture["quantized"]
    assert file.architecture["channels"]

    evaluated = project.run("ssd", "evaluate", "-e", spec, "-m", last, "-k", KEY)
    assert evaluated.code == 0, evaluated.output
    assert re.search(r"^\s+mAP\s+[\d.]+$", evaluated.output, re.MULTILINE)

    target, scales = f"{ROOT}/export/model.onnx", f"{ROOT}/export/cal.json"
    words = ("ssd", "export", "-m", last, "-e", spec, "-o", target, "-k", KEY)
    exported = project.run(*words, "--cal_json_file", scales)
    assert exported.code == 0, exported.output
    assert f"Saved: {scales}" in exported.output
    text = project.path(scales).read_text()
    written = json.loads(text)
    assert list(written) == ["tensor_scales"]
    assert text == json.dumps(written, indent=4)
    assert {f"{tensor}_qdq" for tensor in written["tensor_scales"]} == {
        name.split(".")[1] for name in file.weights if name.startswith("quantizers.")
    }
    for tensor, scale in written["tensor_scales"].items():
        assert scale == file.weights[f"quantizers.{tensor}_qdq.scale"].item()
    # Images minus the mean: at most 255 - 104 on the one side, 124 on the other.
    assert 100 < written["tensor_scales"]["Input"] <= 151.1
    graph = onnx.load(project.path(target)).graph
    assert {name for node in graph.node for name in node.output}.issuperset(
        set(written["tensor_scales"]) - {"Input"}
    )
    session = onnxruntime.InferenceSession(project.path(target))
    rows, _ = session.run(["NMS", "NMS_1"], {"Input": np.zeros((1, 3, 48, 144), np.float32)})
    assert rows.shape == (1, 1, 50, 7)

    without = project.run(*words)
    assert without.code == 0, without.output
    assert "without --cal_json_file its tensor scales are lost" in without.output


def test_a_resumed_training_has_the_weights_and_scales_of_one_without_a_pause(project: Project):
    spec = project.spec("qat.txt", replace=QAT)
    assert project.train("whole", spec=spec).code == 0
    words = ("-m", project.weights("whole", 1), "--initial_epoch", "2")
    continued = project.train("continued", *words, spec=spec)
    assert continued.code == 0, continued.output
    one, other = (
        load_model(project.path(project.weights(run, 2)), KEY).weights for run in ("whole", "continued")
    )
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert any(name.startswith("quantizers.") for name in one)


def test_models_with_and_without_quantisation_do_not_mix(project: Project):
    qat, plain = project.spec("qat.txt", replace=QAT), project.spec("plain.txt", replace=FLOAT)
    assert project.train("qat", spec=qat).code == 0
    assert project.train("plain", spec=plain).code == 0
    models = {name: project.weights(name, 1) for name in ("qat", "plain")}
    for name in ("qat", "plain"):
        models[f"pruned {name}"] = f"{ROOT}/{name}/pruned.tlt"
        prune(project, models[name], models[f"pruned {name}"])

    for model, spec, message in (
        ("plain", qat, "the spec has enable_qat, and this model was trained without it"),
        ("pruned plain", qat, "the spec has enable_qat, and this pruned model was trained without it"),
        ("qat", plain, "this model was trained with enable_qat, and the spec doesn't enable it"),
        (
            "pruned qat",
            plain,
            "this pruned model was trained with enable_qat, and the spec doesn't enable it",
        ),
    ):
        refused = project.train("refused", "-m", models[model], spec=spec)
        assert refused.code != 0
        assert message in refused.output
        assert models[model] in refused.output
        assert "Traceback" not in refused.output
    refused = project.train("refused", "-m", models["plain"], "--initial_epoch", "2", spec=qat)
    assert refused.code != 0
    assert "this model was trained without it" in refused.output

    words = ("ssd", "export", "-m", models["plain"], "-e", plain, "-o", f"{ROOT}/model.onnx", "-k", KEY)
    refused = project.run(*words, "--cal_json_file", f"{ROOT}/cal.json")
    assert refused.code != 0
    assert "wasn't trained with enable_qat" in refused.output
    assert not project.path(f"{ROOT}/model.onnx").exists()
    words = ("ssd", "export", "-m", models["qat"], "-e", qat, "-o", f"{ROOT}/model.onnx", "-k", KEY)
    refused = project.run(*words, "--cal_json_file", f"{ROOT}/qat")
    assert refused.code != 0
    assert "--cal_json_file is a folder" in refused.output


@pytest.mark.parametrize(
    "more",
    [
        {'arch: "resnet"': 'arch: "resnet" freeze_bn: true freeze_blocks: 0'},
        {"num_epochs: 2": "num_epochs: 1 model_ema: true", "type: L1": "type: L2"},
        {"num_epochs: 2": "num_epochs: 1 visualizer { enabled: true num_images: 1 weight_histograms: true }"},
    ],
)
def test_it_goes_with_everything_else_that_a_training_can_do(project: Project, more: dict[str, str]):
    spec = project.spec("qat.txt", replace={**QAT, **more})
    done = project.train("qat", spec=spec)
    assert done.code == 0, done.output


def test_weights_for_the_backbone_alone_start_a_quantisation_aware_training(project: Project, tmp_path):
    from taomagic.engine.storage.model_file import ModelFile, save_model

    plain = project.spec("plain.txt", replace=FLOAT)
    assert project.train("plain", spec=plain).code == 0
    file = load_model(project.path(project.weights("plain", 1)), KEY)
    backbone = {
        n.replace("backbone.", "x.", 1): t for n, t in file.weights.items() if n.startswith("backbone.")
    }
    save_model(project.folder / "backbone.hdf5", ModelFile(None, backbone))
    import h5py

    with h5py.File(project.folder / "backbone.hdf5", "r+") as keras:
        del keras.attrs["taomagic"]
    done = project.train("qat", "-m", f"{ROOT}/backbone.hdf5", spec=project.spec("qat.txt", replace=QAT))
    assert done.code == 0, done.output
    assert "Took " in done.output
    assert "_qdq" not in done.output  # scales are not among what starts at random

"""Backbones through the commands: two of them from train to export, the others from prune on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from taomagic.engine.ssd import weights
from taomagic.engine.ssd.model import SSD, Architecture
from taomagic.spec.ssd import read_experiment

from .conftest import KEY, ROOT, Project


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These networks are too small for more, and threads that wait for each other take most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("arch", "name", "more"),
    [
        ("mobilenet_v2", "mobilenet_v2", "freeze_blocks: 13 freeze_bn: true"),
        ("efficientnet_b0", "efficientnet_b0", "freeze_blocks: 0"),
    ],
)
def test_a_backbone_is_trained_pruned_retrained_evaluated_and_exported(
    project: Project, arch: str, name: str, more: str
) -> None:
    network = {'arch: "resnet"': f'arch: "{arch}"', "nlayers: 10": more, "num_epochs: 3": "num_epochs: 1"}
    spec = project.spec(f"{name}.txt", replace=network)
    weights = f"{ROOT}/{name}/weights/ssd_{name}_epoch_001.tlt"
    pruned = f"{ROOT}/{name}/pruned.tlt"
    commands = (
        ("ssd", "train", "-e", spec, "-r", f"{ROOT}/{name}", "-k", KEY),
        ("ssd", "prune", "-m", weights, "-o", pruned, "-pth", "0.95", "-nf", "4", "-pg", "4", "-k", KEY),
        ("ssd", "train", "-e", spec, "-r", f"{ROOT}/{name}_again", "-m", pruned, "-k", KEY),
        ("ssd", "evaluate", "-e", spec, "-m", weights.replace(name, f"{name}_again", 1), "-k", KEY),
        ("ssd", "export", "-e", spec, "-m", pruned, "-o", f"{ROOT}/{name}/model.etlt", "-k", KEY),
    )
    for words in commands:
        done = project.run(*words)
        assert done.code == 0, done.output
        if words[1] == "prune":
            ratio = float(done.output.split("(pruned model / original model): ")[1].split()[0])
            assert ratio < 1
    assert (project.folder / name / "model.etlt").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arch", "nlayers"),
    [
        ("resnet", 50),
        ("vgg", 16),
        ("darknet", 19),
        ("darknet", 53),
        ("googlenet", 0),
        ("mobilenet_v1", 0),
        ("squeezenet", 0),
    ],
)
def test_a_backbone_is_pruned_retrained_and_exported(
    project: Project, monkeypatch: pytest.MonkeyPatch, arch: str, nlayers: int
) -> None:
    monkeypatch.setenv("TAOMAGIC_STEPS_PER_EPOCH", "1")
    layers = f"nlayers: {nlayers}" if nlayers else ""
    spec = project.spec(
        replace={'arch: "resnet"': f'arch: "{arch}"', "nlayers: 10": layers, "num_epochs: 3": "num_epochs: 1"}
    )
    # An untrained network is pruned as well as a trained one.
    torch.manual_seed(1)
    experiment = read_experiment(project.path(spec), purpose="train")
    whole = SSD(Architecture.from_experiment(experiment, ("car", "cyclist", "pedestrian")))
    weights.save(project.folder / "whole.tlt", whole, KEY)
    name = f"ssd_{arch}{nlayers or ''}"
    for words in (
        ("prune", "-m", f"{ROOT}/whole.tlt", "-o", f"{ROOT}/pruned", "-pth", "0.97", "-nf", "4", "-pg", "4"),
        ("train", "-e", spec, "-r", f"{ROOT}/again", "-m", f"{ROOT}/pruned.tlt"),
        (
            "export",
            "-e",
            spec,
            "-m",
            f"{ROOT}/again/weights/{name}_epoch_001.tlt",
            "-o",
            f"{ROOT}/model.onnx",
        ),
    ):
        done = project.run("ssd", *words, "-k", KEY)
        assert done.code == 0, done.output
    pruned, _ = weights.model_from_file(project.folder / "pruned.tlt", KEY)
    again, _ = weights.model_from_file(project.folder / f"again/weights/{name}_epoch_001.tlt", KEY)
    assert pruned.architecture.channels
    assert again.architecture.channels == pruned.architecture.channels
    assert (project.folder / "model.onnx").stat().st_size > 10_000

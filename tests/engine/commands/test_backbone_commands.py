"""Backbones with one tap and with two through the commands: train, prune, retrain, evaluate, export."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

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

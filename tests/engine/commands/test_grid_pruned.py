"""DetectNet_v2 as NVIDIA's notebook has it: train, prune, retrain, retrain with quantisation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from taomagic.engine.cli import main
from taomagic.engine.data.tfrecord import TFRecordWriter
from taomagic.engine.detectnet_v2 import weights
from taomagic.engine.storage import container
from taomagic.engine.weights.state import portable_state
from tests.engine.detectnet_v2.conftest import ROOT, example
from tests.engine.detectnet_v2.test_grid_loading import experiment_text
from tests.engine.pruning.nets import uneven

KEY = "a key"


class Project:
    """A folder with images and records, and commands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rng = np.random.default_rng(0)
        (folder / "tfrecords").mkdir()
        rows = [("car", 8.0, 8.0, 70.0, 50.0), ("cyclist", 40.0, 4.0, 80.0, 60.0)]
        for fold, names in ((0, ["v/0", "v/1"]), (1, ["a/0", "a/1", "a/2", "a/3"])):
            with TFRecordWriter(folder / "tfrecords" / f"set0-fold-00{fold}-of-002") as writer:
                for name in names:
                    writer.write(example(name, rows, (96, 64)))
                    (folder / name).parent.mkdir(exist_ok=True)
                    cv2.imwrite(
                        str(folder / f"{name}.png"), rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)
                    )
        self.text = experiment_text().replace("num_layers: 18", "num_layers: 10\n  width_multiplier: 0.125")
        self.text = re.sub(r"num_epochs: \d+", "num_epochs: 1", self.text)
        self.text = re.sub(r'\n *pretrained_model_file: "[^"]*"', "", self.text)
        # One epoch is too short for the visualizer's five.
        self.text = re.sub(r"\n +visualizer \{.*?\n  \}(?=\n\})", "", self.text, flags=re.DOTALL)

    def __call__(self, subtask: str, *words: str) -> tuple[int, str]:
        printed = StringIO()
        with redirect_stdout(printed):
            code = main(["detectnet_v2", subtask, *words, "-k", KEY])
        return code, printed.getvalue()

    def train(self, results: str, model: str = "", *, more: str = "", qat: bool = False) -> tuple[int, str]:
        text = self.text
        if model:
            line = f'arch: "resnet"\n  pretrained_model_file: "{ROOT}/{model}"\n  {more}'
            text = text.replace('arch: "resnet"', line)
        if qat:
            text = text.replace("training_config {", "training_config {\n  enable_qat: true")
        (self.folder / f"{results}.txt").write_text(text)
        return self("train", "-e", f"{ROOT}/{results}.txt", "-r", f"{ROOT}/{results}", "-n", "net")

    def model(self, path: str) -> weights.DetectNet:
        return weights.model_from_file(self.folder / path, KEY)[0]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Four trainings and a pruning, which all tests look at."""
    folder = tmp_path_factory.mktemp("grid")
    mounts = folder / "mounts.json"
    mounts.write_text(json.dumps({"Mounts": [{"source": str(folder), "destination": ROOT}]}))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAUNCHER_MOUNTS", str(mounts))
        patch.setattr(container, "SCRYPT_COST", (10, 1, 1))
        project = Project(folder)
        code, said = project.train("unpruned")
        assert code == 0, said
        # A short training leaves filters that are all alike.
        whole = project.model("unpruned/weights/net.tlt")
        uneven(whole)
        weights.save(folder / "whole.tlt", whole, KEY)
        code, said = project(
            "prune", "-m", f"{ROOT}/whole.tlt", "-o", f"{ROOT}/pruned.tlt", "-eq", "intersection", "-pth", "0.4",
            "-pg", "2", "-nf", "2",
        )  # fmt: skip
        assert code == 0, said
        for results, qat in (("retrained", False), ("qat", True)):
            code, said = project.train(results, "pruned.tlt", more="load_graph: true", qat=qat)
            assert code == 0, said
        yield project
    torch.set_num_threads(threads)


def test_retraining_goes_on_with_the_pruned_network(project: Project) -> None:
    whole, pruned = project.model("whole.tlt"), project.model("pruned.tlt")
    retrained = project.model("retrained/weights/net.tlt")
    assert len(pruned.architecture.channels) > 5
    assert retrained.architecture == pruned.architecture
    assert sum(p.numel() for p in retrained.parameters()) < sum(p.numel() for p in whole.parameters())
    before, after = portable_state(pruned), portable_state(retrained)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert "heads.output_cov.weight" in moved
    # One step of Adam at its smallest rate: the network is the pruned one, hardly changed.
    changes = [float((after[n] - before[n]).abs().max()) for n in moved if not n.endswith(("mean", "var"))]
    assert max(changes) < 1e-4


def test_a_pruned_float_network_is_retrained_with_quantisation(project: Project) -> None:
    qat = project.model("qat/weights/net.tlt")
    assert qat.architecture.quantized
    assert qat.architecture.channels == project.model("pruned.tlt").architecture.channels
    scales = {n: t for n, t in portable_state(qat).items() if n.endswith(".seen")}
    assert scales
    assert all(float(seen) > 0 for seen in scales.values())
    code, said = project("evaluate", "-e", f"{ROOT}/qat.txt", "-m", f"{ROOT}/qat/weights/net.tlt")
    assert code == 0, said
    code, said = project(
        "prune", "-m", f"{ROOT}/qat/weights/net.tlt", "-o", f"{ROOT}/again.tlt", "-pth", "0.5"
    )
    assert code == 0, said
    assert project.model("again.tlt").architecture.quantized


@pytest.mark.parametrize(
    ("model", "more", "qat", "message"),
    [
        ("qat/weights/net.tlt", "load_graph: true", True, "has been trained with it already"),
        ("none.tlt", "", False, "no such model file"),
        ("spec.tlt", "", False, "this is not"),
        ("pruned.tlt", "num_layers: 34", False, "weights of resnet 10, and the spec builds resnet 34"),
    ],
)
def test_what_cannot_be_started_is_told_with_the_path_as_written(
    project: Project, model: str, more: str, qat: bool, message: str
) -> None:
    (project.folder / "spec.tlt").write_text("no model at all, but text " * 9)
    text, name = project.text, Path(model).stem + more[:3]
    if more.startswith("num"):
        project.text, more = text.replace("num_layers: 10", more), ""
    code, said = project.train(f"refused_{name}", model, more=more, qat=qat)
    project.text = text
    assert code == 1
    (error,) = (line for line in said.splitlines() if line.startswith("ERROR: "))
    assert error.startswith(f"ERROR: {ROOT}/{model}: ")
    assert message in error
    assert "HINT: " in said
    assert "Traceback" not in said
    assert not list((project.folder / f"refused_{name}").rglob("*.tlt"))


def test_loaded_layers_stay_as_they_are_where_the_spec_freezes_them(project: Project) -> None:
    code, said = project.train("frozen", "whole.tlt", more="freeze_pretrained_layers: true")
    assert code == 0, said
    assert "Layer block_4a_conv_2 weights set from pre-trained model." in said
    before, after = (portable_state(project.model(path)) for path in ("whole.tlt", "frozen/weights/net.tlt"))
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {name for name in before if name.startswith("backbone.")}

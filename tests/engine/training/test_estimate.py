"""A step is timed before the first one, with whatever share of a batch a process has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from taomagic.engine.data.batch import Batch
from taomagic.engine.device import Device
from taomagic.engine.ssd.train import SSDNetwork
from taomagic.engine.training.estimate import step_seconds
from taomagic.project.paths import PathMap
from taomagic.spec.ssd import read_experiment
from tests.engine.commands.conftest import SPEC


@pytest.mark.parametrize("images", [0, 1, 2])
def test_any_share_of_a_batch_can_be_timed_and_changes_nothing(tmp_path, images):
    # One image of a batch of two: its smallest maps have a single value, which can't be normalised alone.
    spec = tmp_path / "spec.txt"
    spec.write_text(SPEC[: SPEC.index("  validation_data_sources")] + "}\n")
    experiment = read_experiment(Path(spec), purpose="train")
    network = SSDNetwork(experiment, PathMap(), "")
    model = network.start(None, "")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = Batch(
        images=torch.randn(images, 3, 48, 144),
        boxes=torch.tensor([[[10.0, 10.0, 60.0, 40.0]]]).repeat(images, 1, 1),
        labels=torch.ones(images, 1, dtype=torch.int64),
        difficult=torch.zeros(images, 1, dtype=torch.bool),
        names=tuple(str(i) for i in range(images)),
        global_size=2,
    )
    seconds = step_seconds(network, model, Device(torch.device("cpu")), batch)
    assert (seconds > 0) == (images > 0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

"""Two processes learn DetectNet_v2 from a batch, and weigh its objectives, as one process does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from taomagic.engine.detectnet_v2.layout import Layout
from taomagic.engine.detectnet_v2.loading import GridBatch
from taomagic.engine.detectnet_v2.loss import GridLoss
from taomagic.engine.detectnet_v2.model import Architecture, DetectNet
from taomagic.engine.detectnet_v2.objective import GridObjective
from taomagic.engine.device import Device
from taomagic.engine.training import distributed
from taomagic.engine.training.batch_norm import share_batch_norm
from taomagic.engine.training.optimizer import set_learning_rate
from taomagic.engine.training.regularizer import Regularizer
from taomagic.engine.training.step import Step
from taomagic.spec.detectnet_v2 import read_experiment
from tests.engine.training.ranks import in_ranks

from .test_grid_loading import experiment_text


def batch_of(number: int, rows: list[int], size: int) -> GridBatch:
    """Return some images of a batch of ``size``."""
    torch.manual_seed(number)
    images = torch.rand(size, 3, 64, 96)
    corners = torch.rand(size, 4, 2) * torch.tensor([50.0, 30.0])
    extents = torch.rand(size, 4, 2) * torch.tensor([40.0, 30.0]) + 6
    labels = torch.randint(0, 4, (size, 4))
    return GridBatch(
        images=images[rows],
        boxes=torch.cat([corners, corners + extents], 2)[rows],
        labels=labels[rows],
        difficult=torch.zeros(len(rows), 4, dtype=torch.bool),
        names=tuple(str(row) for row in rows),
        global_size=size,
        weights=torch.ones(len(rows)),
        source_classes=(("",) * 4,) * len(rows),
    )


def steps_of(rank: int, spec: str, shares: list[list[list[int]]]) -> dict[str, Any]:
    """Make steps, weighing the objectives after the second; return losses and all weights."""
    experiment = read_experiment(Path(spec), purpose="train")
    experiment = replace(experiment, cost=replace(experiment.cost, enable_autoweighting=True))
    torch.manual_seed(5)
    model = DetectNet(Architecture.from_experiment(experiment))
    device = Device(torch.device("cpu"))
    device.place(model).train()
    if not distributed.world().is_alone:
        share_batch_norm(model)
    loss = GridLoss(experiment.cost)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    step = Step(
        distributed.connected(model, device.torch_device),
        GridObjective(Layout.of(model.architecture), experiment, loss=loss, notes=True),
        device,
        optimizer,
        Regularizer("L1", 1e-4, model, biases=True),
        device.loss_scaler(),
    )
    losses = []
    for number, rows in enumerate(shares):
        size = sum(map(len, rows)) if len(rows) == 1 else 4
        batch = batch_of(number, rows[rank], size)
        set_learning_rate(optimizer, 1e-2)
        parts, names, values = step.forward(batch)
        losses.append(dict(zip(names, values.tolist(), strict=True)))
        step.update(parts)
        if number == 1:
            loss.rebalance()
    return {"losses": losses, "weights": model.state_dict(), "objectives": loss.state()}


def test_losses_weights_and_objectives_are_those_of_one_process(tmp_path: Path) -> None:
    spec = tmp_path / "spec.txt"
    spec.write_text(experiment_text().replace("num_layers: 18", "num_layers: 10\n  width_multiplier: 0.125"))
    alone = steps_of(0, str(spec), [[[0, 1, 2, 3]]] * 3)
    together = in_ranks(2, steps_of, tmp_path, str(spec), [[[0, 1], [2, 3]]] * 3)
    assert alone["objectives"]["car/cov"] != pytest.approx(1 / 11, rel=1e-2), "they have been weighed"
    for rank in together:
        assert rank["objectives"] == pytest.approx(alone["objectives"], rel=1e-4)
        for ours, theirs in zip(rank["losses"], alone["losses"], strict=True):
            assert ours == pytest.approx(theirs, rel=2e-4)
        for name, expected in alone["weights"].items():
            if not name.endswith("num_batches_tracked"):
                assert torch.allclose(rank["weights"][name], expected, rtol=1e-3, atol=2e-5), name
    for name, value in together[0]["weights"].items():
        assert torch.equal(value, together[1]["weights"][name]), name
    assert together[0]["objectives"] == together[1]["objectives"]

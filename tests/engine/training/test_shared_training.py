"""Two processes learn from a batch what one process learns from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from taomagic.engine.data.loading import Batch
from taomagic.engine.device import Device
from taomagic.engine.ssd.loss import multibox_loss
from taomagic.engine.ssd.model import SSD, Architecture
from taomagic.engine.ssd.objective import Objective
from taomagic.engine.ssd.targets import Targets
from taomagic.engine.training import distributed
from taomagic.engine.training.batch_norm import share_batch_norm
from taomagic.engine.training.optimizer import set_learning_rate
from taomagic.engine.training.regularizer import Regularizer
from taomagic.engine.training.step import Step
from taomagic.spec.ssd import read_experiment
from tests.engine.commands.conftest import SPEC
from tests.engine.training.ranks import in_ranks


def batch_of(
    images: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor, rows: list[int], size: int
) -> Batch:
    """Return some rows of a batch of ``size`` images."""
    return Batch(
        images=images[rows],
        boxes=boxes[rows],
        labels=labels[rows],
        difficult=torch.zeros_like(labels[rows], dtype=torch.bool),
        names=tuple(str(row) for row in rows),
        global_size=size,
    )


def steps_of(rank: int, spec: str, sizes: list[int], shares: list[list[list[int]]]) -> dict[str, Any]:
    """Make a step with each batch and return the losses and the weights."""
    experiment = read_experiment(Path(spec), purpose="train")
    torch.manual_seed(5)
    model = SSD(Architecture.from_experiment(experiment, experiment.dataset.classes))
    device = Device(torch.device("cpu"))
    device.place(model).train()
    if not distributed.world().is_alone:
        share_batch_norm(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    shared = not distributed.world().is_alone
    step = Step(
        distributed.connected(model, device.torch_device),
        Objective(model, experiment.model, shared=shared),
        device,
        optimizer,
        Regularizer("L2", 1e-3, model),
        device.loss_scaler(),
    )
    losses = []
    for number, size in enumerate(sizes):
        torch.manual_seed(number)
        images = torch.randn(size, 3, 48, 144) * 50
        corners = torch.rand(size, 4, 2) * torch.tensor([80.0, 24.0])
        extents = torch.rand(size, 4, 2) * torch.tensor([60.0, 22.0]) + 4
        labels = torch.randint(0, 4, (size, 4))
        batch = batch_of(
            images, torch.cat([corners, corners + extents], 2), labels, shares[number][rank], size
        )
        set_learning_rate(optimizer, 1e-3)
        loss, names, values = step.forward(batch)
        losses.append(dict(zip(names, values.tolist(), strict=True)))
        step.update(loss)
    return {"losses": losses, "weights": model.state_dict()}


@pytest.fixture
def spec(tmp_path: Path) -> str:
    path = tmp_path / "spec.txt"
    path.write_text(SPEC)
    return str(path)


def test_losses_weights_and_statistics_are_those_of_one_process(tmp_path, spec):
    # Equal shares, unequal ones, and a batch of one image, of which the second process has none.
    sizes = [4, 5, 1]
    dealt = [[[0, 1], [2, 3]], [[0, 1, 2], [3, 4]], [[0], []]]
    alone = steps_of(0, spec, sizes, [[list(range(size))] for size in sizes])
    together = in_ranks(2, steps_of, tmp_path, spec, sizes, dealt)
    for rank in together:
        for ours, theirs in zip(rank["losses"], alone["losses"], strict=True):
            assert ours == pytest.approx(theirs, rel=2e-4)
        for name, expected in alone["weights"].items():
            if not name.endswith("num_batches_tracked"):
                assert torch.allclose(rank["weights"][name], expected, rtol=1e-3, atol=2e-5), name
    for name, value in together[0]["weights"].items():
        assert torch.equal(value, together[1]["weights"][name]), name


def loss_of(
    rank: int, scores: torch.Tensor, offsets: torch.Tensor, targets: Targets, parts: list[Any]
) -> Any:
    rows = parts[rank]
    mine = scores[rows].clone().requires_grad_()
    boxes = offsets[rows].clone().requires_grad_()
    own = Targets(targets.classes[rows], targets.offsets[rows])
    parts_of_loss = multibox_loss(mine, boxes, own, neg_pos_ratio=2.0, shared=True)
    parts_of_loss.total.backward()
    values = torch.stack([parts_of_loss.classification, parts_of_loss.localisation]).detach()
    return values, mine.grad, boxes.grad


def test_negatives_are_mined_in_the_batches_of_all_processes(tmp_path):
    # All positives and all hard negatives lie with one process, the other one has only easy background; a third none.
    torch.manual_seed(1)
    scores, offsets = torch.randn(4, 40, 3), torch.randn(4, 40, 4)
    scores[:2, :, 1] += 6.0
    classes = torch.zeros(4, 40, dtype=torch.int64)
    classes[0, :5], classes[1, 7] = 1, -1
    targets = Targets(classes, torch.randn(4, 40, 4))
    whole_scores, whole_offsets = scores.clone().requires_grad_(), offsets.clone().requires_grad_()
    whole = multibox_loss(whole_scores, whole_offsets, targets, neg_pos_ratio=2.0)
    whole.total.backward()
    results = in_ranks(3, loss_of, tmp_path, scores, offsets, targets, [[0, 1], [2, 3], []])
    total = sum(values for values, _, _ in results)
    assert torch.allclose(total, torch.stack([whole.classification, whole.localisation]).detach(), rtol=1e-5)
    assert torch.allclose(torch.cat([g for _, g, _ in results]), whole_scores.grad, atol=1e-6)
    assert torch.allclose(torch.cat([g for _, _, g in results]), whole_offsets.grad, atol=1e-6)
    assert (results[1][1] == 0).all()

"""What quick mode makes smaller, and what it leaves as it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from taomagic.engine.data.feed import Workers, choose_workers
from taomagic.engine.data.loading import Batch
from taomagic.engine.device import Device
from taomagic.engine.training import quick_mode
from taomagic.engine.training.step import forward


def test_nothing_is_smaller_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "0", " "):
        monkeypatch.setenv(quick_mode.QUICK_MODE_VARIABLE, value)
        assert not quick_mode.is_on()
        sizes = quick_mode.shortened(27), quick_mode.images_of_step(16), quick_mode.images_of_validation(40)
        assert sizes == (27, 16, 40)
        assert all(quick_mode.keeps_state(epoch, 80) for epoch in range(1, 81))


def test_steps_images_and_states_are_few_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(quick_mode.QUICK_MODE_VARIABLE, "5")
    assert [quick_mode.shortened(steps) for steps in (1, 5, 27)] == [1, 5, 5]
    assert quick_mode.images_of_step(16) == 1
    assert [quick_mode.images_of_validation(count) for count in (1, 40)] == [1, 2]
    assert [epoch for epoch in range(1, 26) if quick_mode.keeps_state(epoch, 25)] == [10, 20, 25]


def test_no_worker_prepares_batches_that_nobody_takes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose_workers(8, processes=True) == Workers(8, processes=True)
    monkeypatch.setenv(quick_mode.QUICK_MODE_VARIABLE, "1")
    assert choose_workers() == Workers(0, processes=False)
    assert not caplog.text
    assert choose_workers(8, processes=True) == Workers(0, processes=False)
    assert "QUICK MODE: no workers" in caplog.text


@pytest.mark.parametrize(("twins", "images"), [(True, 2), (False, 1)])
def test_an_image_is_alone_where_no_map_has_a_single_cell(twins: bool, images: int) -> None:
    class Net(nn.Module):
        seen = 0

        def forward(self, pixels: Tensor) -> tuple[Tensor]:
            self.seen = len(pixels)
            return (pixels,)

    class Loss:
        def __init__(self, output: Tensor) -> None:
            self.total = output.sum()

        def named(self) -> dict[str, Tensor]:
            return {}

    net = Net()
    empty = torch.zeros(1, 0, 4)
    batch = Batch(torch.ones(1, 3, 2, 2), empty, empty[..., 0].long(), empty[..., 0].bool(), ("a",), 1)
    loss = forward(
        net, lambda *outputs, batch: Loss(outputs[0]), Device(torch.device("cpu"), None), batch, twins=twins
    )
    assert net.seen == images
    assert float(loss.total) == 12

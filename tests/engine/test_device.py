"""Which device and which precision a command gets."""

import logging

import pytest
import torch

from taomagic.engine.device import choose_device


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_mixed_precision_needs_a_gpu_with_bfloat16(monkeypatch, caplog, capability, expected):
    monkeypatch.delenv("TAOMAGIC_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    with caplog.at_level(logging.WARNING):
        assert choose_device([0], amp=True).amp is expected
    assert ("no bfloat16" in caplog.text) is not expected


def test_a_gpu_index_means_nothing_on_a_machine_without_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device([3]).torch_device.type == "cpu"

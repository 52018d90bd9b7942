"""Which device and which precision a command gets."""

import logging
import math

import pytest
import torch

from taomagic.engine.device import Device, choose_device
from taomagic.spec.settings import CostScalingSettings

SCALING = CostScalingSettings(initial_exponent=20.0, increment=0.005, decrement=1.0)


@pytest.mark.parametrize(
    ("capability", "scaling", "expected"),
    [
        ((7, 5), None, torch.float16),
        ((8, 0), None, torch.bfloat16),
        ((9, 0), None, torch.bfloat16),
        ((9, 0), SCALING, torch.float16),
    ],
)
def test_mixed_precision_is_bfloat16_where_the_gpu_has_it_and_no_loss_scale_is_asked_for(
    monkeypatch, capability, scaling, expected
):
    monkeypatch.delenv("TAOMAGIC_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _device: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    assert choose_device([0], amp=True, cost_scaling=scaling).precision is expected
    assert choose_device([0], amp=False, cost_scaling=scaling).precision is None


@pytest.mark.parametrize("able", [True, False])
def test_mixed_precision_on_a_cpu_needs_one_that_has_bfloat16(monkeypatch, caplog, able):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("taomagic.engine.device.cpu_has_bfloat16", lambda: able)
    with caplog.at_level(logging.WARNING):
        device = choose_device(amp=True, asked_by="training_precision: FLOAT16")
    assert device.precision is (torch.bfloat16 if able else None)
    assert ("training in float32" in caplog.text) is not able
    assert ("training_precision: FLOAT16: neither" in caplog.text) is not able


def test_the_loss_scale_follows_the_exponents_of_the_spec():
    scaler = Device(torch.device("cpu"), torch.float16).loss_scaler(SCALING)
    weight = torch.nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([weight], lr=0.0)

    def exponent_after(gradient: float) -> float:
        optimizer.zero_grad()
        scaler.scale(weight * gradient).backward()
        scaler.step(optimizer)
        scaler.update()
        return math.log2(scaler.get_scale())

    assert exponent_after(1.0) == pytest.approx(20.005, abs=1e-4)
    assert exponent_after(1.0) == pytest.approx(20.010, abs=1e-4)
    assert exponent_after(math.inf) == pytest.approx(19.010, abs=1e-4)


@pytest.mark.parametrize(
    ("increment", "decrement", "after_a_good_step", "after_a_bad_step"),
    [(0.0, 2.0, 20.0, 18.0), (1e-30, 1.0, 20.0, 19.0), (5000.0, 1.0, 20.0, 19.0), (1.0, 1e-30, 21.0, 21.0)],
)
def test_every_loss_scale_that_a_spec_may_ask_for_works(
    increment, decrement, after_a_good_step, after_a_bad_step
):
    # 0 is a constant scale; 5000 would leave the range of float32, so that the scale stays.
    settings = CostScalingSettings(initial_exponent=20.0, increment=increment, decrement=decrement)
    scaler = Device(torch.device("cpu"), torch.float16).loss_scaler(settings)
    weight = torch.nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    for gradient, exponent in ((1.0, after_a_good_step), (math.inf, after_a_bad_step)):
        optimizer.zero_grad()
        scaler.scale(weight * gradient).backward()
        scaler.step(optimizer)
        scaler.update()
        assert math.log2(scaler.get_scale()) == pytest.approx(exponent, abs=1e-4)


def test_only_float16_has_a_loss_scale():
    assert not Device(torch.device("cpu"), torch.bfloat16).loss_scaler(SCALING).is_enabled()
    assert not Device(torch.device("cpu")).loss_scaler().is_enabled()
    assert Device(torch.device("cpu"), torch.float16).loss_scaler().is_enabled()


def test_a_gpu_index_means_nothing_on_a_machine_without_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device([3]).torch_device.type == "cpu"

"""Batch normalisation over the images of several processes equals that of one process with all of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from taomagic.engine.ssd.weights import freeze
from taomagic.engine.training import batch_norm
from taomagic.engine.training.batch_norm import SharedBatchNorm2d, share_batch_norm


def statistics_of(
    shares: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> tuple[torch.Tensor, torch.Tensor, float]:
    offered: list[torch.Tensor] = []

    def stop(values: torch.Tensor) -> torch.Tensor:
        offered.append(values)
        return values[None]

    monkeypatch.setattr(batch_norm, "stacked", stop)
    for share in shares:
        if len(share):
            batch_norm._global_statistics(share)
        else:
            offered.append(torch.zeros(2 * share.shape[1] + 1))
    monkeypatch.setattr(batch_norm, "stacked", lambda _values: torch.stack(offered))
    return batch_norm._global_statistics(shares[0])


def test_statistics_of_unequal_and_empty_shares_are_those_of_the_whole(monkeypatch):
    x = torch.randn(7, 5, 3, 4) * 3 + 100
    mean, variance, count = statistics_of([x[:4], x[4:7], x[7:]], monkeypatch)
    assert count == 7 * 12
    assert torch.allclose(mean, x.mean((0, 2, 3)), rtol=1e-6)
    assert torch.allclose(variance, x.var((0, 2, 3), correction=0), rtol=1e-4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_alone_it_equals_pytorchs_layer_in_values_gradients_and_statistics(layout):
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(6, eps=1e-3, momentum=0.01)
    with torch.no_grad():
        plain.weight.uniform_(0.5, 2.0)
        plain.bias.normal_()
    model = share_batch_norm(nn.Sequential(nn.Sequential(plain)))
    shared = model[0][0]
    assert isinstance(shared, SharedBatchNorm2d)
    reference = nn.BatchNorm2d(6, eps=1e-3, momentum=0.01)
    reference.load_state_dict(plain.state_dict())
    x = (torch.randn(4, 6, 5, 7) * 2 + 1).contiguous(memory_format=layout)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    towards = torch.randn_like(x)
    (shared(one) * towards).sum().backward()
    (reference(other) * towards).sum().backward()
    assert torch.allclose(one.grad, other.grad, atol=1e-5)
    assert torch.allclose(shared.weight.grad, reference.weight.grad, rtol=1e-4, atol=1e-4)
    assert torch.allclose(shared.bias.grad, reference.bias.grad, rtol=1e-4, atol=1e-4)
    for name in ("running_mean", "running_var"):
        assert torch.allclose(getattr(shared, name), getattr(reference, name), atol=1e-6)


def test_sharing_keeps_names_and_tensors_and_the_mode_of_frozen_layers():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4).eval())
    before = {name: value.data_ptr() for name, value in model.state_dict().items() if value.ndim}
    share_batch_norm(model)
    assert {name: value.data_ptr() for name, value in model.state_dict().items() if value.ndim} == before
    x = torch.randn(2, 3, 4, 4)
    assert not model[1].training
    assert torch.allclose(model[1](x.repeat(1, 2, 1, 1)[:, :4]), x.repeat(1, 2, 1, 1)[:, :4], atol=1e-4)


def test_gradients_in_double_precision_are_exact():
    layer = SharedBatchNorm2d(2).double()
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)

    def through(values: torch.Tensor) -> torch.Tensor:
        mean, variance = values.mean((0, 2, 3)).detach(), values.var((0, 2, 3), correction=0).detach()
        return batch_norm._Normalise.apply(values, layer.weight, layer.bias, mean, variance, 12.0, 1e-3)

    reference = nn.BatchNorm2d(2, eps=1e-3).double()
    towards = torch.randn(3, 2, 2, 2, dtype=torch.float64)
    (mine,) = torch.autograd.grad((through(x) * towards).sum(), x)
    (theirs,) = torch.autograd.grad((reference(x) * towards).sum(), x)
    assert torch.allclose(mine, theirs, atol=1e-9)


def test_freeze_bn_also_stops_the_layers_that_gpus_share():
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
            self.backbone.blocks = dict  # no blocks to freeze

    model = nn.SyncBatchNorm.convert_sync_batchnorm(Frozen()).train()
    freeze(model, (), batch_norm=True)
    assert isinstance(model.backbone[1], nn.SyncBatchNorm)
    assert not model.backbone[1].training
    assert model.backbone[0].training

"""Every backbone: the pruned network is the whole one with some filters off, and smaller."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import nn

from taomagic.engine.backbones.base import keras_name
from taomagic.engine.pruning.prune import PruneReport, prune
from taomagic.engine.weights.kind import Detector
from taomagic.engine.weights.state import parameter_count

from .nets import BACKBONES, NETWORKS, silenced, ssd


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Several threads may add up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pruned(model: Detector, **settings: object) -> tuple[Detector, PruneReport]:
    """Prune a network and build it again from the table of widths."""
    settings = {
        "threshold": 0.25,
        "granularity": 4,
        "min_filters": 4,
        "excluded": (*model.heads,),
        **settings,
    }
    report = prune(model, layer_name=keras_name, **settings)
    small = type(model)(
        replace(model.architecture, channels={**model.architecture.channels, **report.channels})
    )
    small.load_state_dict(report.state_dict, strict=True)
    return small.eval(), report


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda each: "".join(map(str, filter(None, each))))
@pytest.mark.parametrize("network", NETWORKS)
def test_a_pruned_backbone_is_the_whole_one_with_its_filters_off(
    network: str, backbone: tuple[str, int]
) -> None:
    model = NETWORKS[network](*backbone)
    first = next(path for path, module in model.named_modules() if isinstance(module, nn.Conv2d))
    model.get_submodule(first).weight.data[1::2] *= 1e-3
    small, report = pruned(model, equalization="intersection")

    assert report.ratio < 0.8
    assert report.parameters_before == parameter_count(model)
    assert report.parameters_after == parameter_count(small)
    assert {layer.name: layer.kept for layer in report.layers} == {
        keras_name(path): module.out_channels
        for path, module in small.named_modules()
        if isinstance(module, nn.Conv2d)
    }

    x = torch.randn(2, 3, 64, 64)
    names = {path: keras_name(path) for path, _ in model.named_modules()}
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):
        silent = silenced(model, report, names, x)
        for ours, whole in zip(small(x), silent(x), strict=True):
            torch.testing.assert_close(ours, whole, rtol=2e-4, atol=2e-5 * float(whole.abs().max()))
        # Where nothing in front of it was cut, each filter that stays computes the very same bits.
        kept = list(next(layer.indices for layer in report.layers if layer.name == keras_name(first)))
        assert 0 < len(kept) < model.get_submodule(first).out_channels
        before, after = model.get_submodule(first)(x), small.get_submodule(first)(x)
        assert torch.equal(after, before[:, kept])


@pytest.mark.parametrize("backbone", [("resnet", 18), ("mobilenet_v2", 0), ("googlenet", 0), ("darknet", 53)])
@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_where_only_one_layer_is_cut_all_that_comes_before_it_keeps_its_bits(
    backbone: tuple[str, int],
) -> None:
    model = ssd(*backbone)
    convolutions = [keras_name(p) for p, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    # The last expansion alone: the whole backbone is in front of it, and only its own maps may change.
    chosen = "ssd_expand_block_4_conv_0" if "ssd_expand_block_4_conv_0" in convolutions else convolutions[-13]
    small, report = pruned(model, excluded=[name for name in convolutions if name != chosen])
    assert set(report.channels) == {chosen}
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):
        for before, after in zip(model.feature_maps(x)[:5], small.feature_maps(x)[:5], strict=True):
            assert torch.equal(before, after)


@pytest.mark.parametrize("backbone", [("resnet", 10), ("mobilenet_v2", 0), ("efficientnet_b0", 0)])
@pytest.mark.parametrize("equalization", ["intersection", "arithmetic_mean", "geometric_mean"])
def test_additions_agree_by_each_criterion(backbone: tuple[str, int], equalization: str) -> None:
    model = ssd(*backbone)
    small, report = pruned(model, equalization=equalization, normalizer="L2", threshold=0.6)
    assert report.ratio < 1
    with torch.no_grad():
        assert all(torch.isfinite(each).all() for each in small(torch.randn(1, 3, 64, 64)))
    kept = {layer.name: layer.indices for layer in report.layers}
    tied = {
        "resnet": ("block_1a_conv_2", "block_1a_conv_shortcut"),
        "mobilenet_v2": ("block_2_project", "block_2_projected_inputs"),
        "efficientnet_b0": ("block2a_expand_conv", "block2a_dwconv", "block2a_se_expand"),
    }[backbone[0]]
    assert len({kept[name] for name in tied}) == 1


@pytest.mark.parametrize("network", NETWORKS)
def test_a_quantised_network_is_pruned_with_its_quantisers_in_place(network: str) -> None:
    model = NETWORKS[network]("resnet", 10, quantized=True)
    for module in model.modules():
        if hasattr(module, "scale") and hasattr(module, "seen"):
            module.scale.fill_(5.0)
    small, report = pruned(model)
    assert report.ratio < 0.8
    assert report.parameters_before == parameter_count(model)
    assert report.parameters_after == parameter_count(small)
    assert {n for n, _ in small.named_buffers() if n.endswith(".scale")} == {
        n for n, _ in model.named_buffers() if n.endswith(".scale")
    }
    x = torch.randn(1, 3, 64, 64)
    names = {path: keras_name(path) for path, _ in model.named_modules()}
    with torch.no_grad():
        silent = silenced(model, report, names, x)
        _silence_inputs(silent, report)
        for ours, whole in zip(small(x), silent(x), strict=True):
            # A sum in another order may round to the next step of the 8-bit grid.
            assert float((ours - whole).abs().mean()) < 1e-3 * float(whole.abs().max())


def _silence_inputs(model: nn.Module, report: PruneReport) -> None:
    """Take away the weights for inputs that are gone: a kernel is rounded by its largest weight, them included."""
    kept = {layer.name: list(layer.indices) for layer in report.layers}
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            rows, smaller = kept[keras_name(path)], report.state_dict[f"{path}.weight"]
            whole = module.weight.data[rows]
            # Found by their values, whatever pruning says of them.
            stays = [
                any(torch.equal(whole[:, i], each) for each in smaller.unbind(1))
                for i in range(whole.shape[1])
            ]
            assert sum(stays) == smaller.shape[1]
            module.weight.data[:, [not each for each in stays]] = 0

"""Quantisation-aware SSDs: names, states, pruning, and what a device computes from their export."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from taomagic.engine.converter.build import prepare
from taomagic.engine.converter.quantization import quantize
from taomagic.engine.pruning.prune import prune
from taomagic.engine.quantization import quantizers, without_quantization
from taomagic.engine.ssd.model import SSD, Architecture, keras_name
from taomagic.engine.ssd.onnx_export import export_onnx, export_with_scales
from taomagic.engine.ssd.weights import model_from_file, save
from taomagic.engine.training.regularizer import Regularizer
from taomagic.spec.settings import NMSSettings
from tests.engine.export.export_cases import experiment

from .ssd_cases import images, network, onnx_predictions, predictions, seen, with_rounded_kernels

SPEC = experiment(NMSSettings(0.01, 0.5, 50, 0))
BACKBONES = [
    ("resnet", 10), ("vgg", 16), ("darknet", 19), ("googlenet", 0),
    ("mobilenet_v1", 0), ("mobilenet_v2", 0), ("squeezenet", 0), ("efficientnet_b0", 0),
]  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_quantisers_of_a_resnet_are_where_the_rule_puts_them():
    blocks = [
        f"block_{stage}a_{layer}"
        for stage in (1, 2, 3, 4)
        # bn_1 stands between a convolution and a ReLU; bn_2 and bn_shortcut go into the sum.
        for layer in ("relu_1", "bn_2", "bn_shortcut", "add", "relu")
    ]
    expansion = [
        # conv_0 has a bias, and no normalisation behind it.
        f"ssd_expand_block_{block}_{layer}" for block in (1, 2, 3, 4) for layer in ("conv_0", "relu_0", "relu_1")
    ]  # fmt: skip
    expected = [f"{layer}_qdq" for layer in ("Input", "relu_1", *blocks, *expansion)]
    assert list(quantizers(network())) == expected


def test_names_of_layers_are_those_of_the_float_network():
    assert set(network(quantized=False).state_dict()) == {
        name for name in network().state_dict() if not name.startswith("quantizers.")
    }


def test_the_architecture_says_whether_it_is_quantisation_aware():
    architecture = network().architecture
    assert Architecture.from_json(architecture.to_json()) == architecture
    old = {k: v for k, v in architecture.to_json().items() if k != "quantized"}
    assert not Architecture.from_json(old).quantized


@pytest.mark.parametrize("suffix", [".tlt", ".hdf5"])
def test_scales_are_part_of_a_checkpoint(tmp_path, suffix):
    model = seen(network())
    path = tmp_path / f"model{suffix}"
    save(path, model, "key")
    again, _ = model_from_file(path, "key")
    state = model.state_dict()
    assert all(
        torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items() if "num_b" not in name
    )
    x = images(2)
    assert all(
        np.array_equal(*pair)
        for pair in zip(predictions(model, x), predictions(again.eval(), x), strict=True)
    )
    # And going on from there is the same, too.
    for which in (model, again.train()):
        which.train()(x)
    assert quantizers(again)["relu_1_qdq"].scale == quantizers(model)["relu_1_qdq"].scale


def test_evaluation_mode_changes_nothing():
    model = seen(network())
    before = copy.deepcopy(model.state_dict())
    model(images() * 3)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_in_mixed_precision_scales_are_float32_and_about_the_same():
    models = [network().train() for _ in range(2)]
    x = images()
    models[0](x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores, offsets = models[1](x)
    (scores.float().square().mean() + offsets.float().square().mean()).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in models[1].parameters())
    exact, mixed = (quantizers(model) for model in models)
    assert all(q.scale.dtype == torch.float32 for q in mixed.values())
    for name in ("Input_qdq", "relu_1_qdq", "block_1a_add_qdq"):
        assert mixed[name].scale.item() == pytest.approx(exact[name].scale.item(), rel=0.02)


def test_the_regulariser_looks_at_the_kernels_as_they_are_trained():
    model = network()
    kernels = [m.weight for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    penalty = float(Regularizer("L1", 0.5, model).penalty())
    assert penalty == pytest.approx(0.5 * sum(float(k.detach().abs().sum()) for k in kernels), rel=1e-5)


@pytest.mark.parametrize(("arch", "nlayers"), BACKBONES)
def test_every_backbone_trains_is_pruned_and_computes_the_same_from_its_export_in_integers(arch, nlayers):
    model = network(arch, nlayers)
    x = images()
    scores, offsets = model.train()(x)
    (scores.square().mean() + offsets.square().mean()).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    assert all(q.seen.item() == pytest.approx(0.001) for q in quantizers(model).values())

    names = {
        "threshold": 0.9,
        "granularity": 4,
        "min_filters": 4,
        "excluded": tuple(model.heads),
        "layer_name": keras_name,
    }
    report = prune(model.eval(), **names)
    assert report.channels
    pruned = SSD(replace(model.architecture, channels=report.channels))
    assert pruned.load_state_dict(report.state_dict, strict=False).unexpected_keys == []
    assert quantizers(pruned)["Input_qdq"].scale == quantizers(model)["Input_qdq"].scale

    with_rounded_kernels(seen(pruned, batches=1))
    exported = export_with_scales(pruned, SPEC)
    assert [f"{name}_qdq" for name in exported.tensor_scales] == list(quantizers(pruned))
    wanted, _ = predictions(pruned, x)
    in_integers, _ = onnx_predictions(exported.model, x, exported.tensor_scales)
    in_floats, _ = onnx_predictions(exported.model, x)
    # Where a value lies beside the middle of two integers, rounding errors decide, and then all behind it in this
    # image changes a little. That doesn't happen in every image.
    ratios = np.abs(wanted - in_integers).mean((1, 2)) / np.abs(wanted - in_floats).mean((1, 2))
    assert ratios.min() < 0.05
    assert ratios.max() < 2


def test_the_export_has_float_kernels_and_scales_by_the_names_of_its_tensors():
    model = seen(network())
    exported = export_with_scales(model, SPEC)
    own = {name.removesuffix("_qdq"): q.scale.item() for name, q in quantizers(model).items()}
    assert exported.tensor_scales == own
    assert next(iter(exported.tensor_scales)) == "Input"
    graph = onnx.load_from_string(exported.model).graph
    tensors = {name for node in graph.node for name in node.output} | {"Input"}
    assert tensors.issuperset(own)
    kinds = {name: node.op_type for node in graph.node for name in node.output}
    assert (kinds["relu_1"], kinds["block_1a_bn_2"], kinds["block_1a_add"]) == ("Clip", "Conv", "Add")
    assert not any(node.domain for node in graph.node)
    plain = copy.deepcopy(model)
    without_quantization(plain)
    x = images(3)
    for one, other in zip(predictions(plain, x), onnx_predictions(exported.model, x), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_export_leaves_the_network_alone():
    model = seen(network()).train()
    before = copy.deepcopy(model.state_dict())
    export_onnx(model, SPEC)
    assert model.training
    assert len(quantizers(model)) == 34
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_float_whichhas_no_scales():
    exported = export_with_scales(network(quantized=False), SPEC)
    assert exported.tensor_scales == {}


def test_an_int8_engine_with_the_trained_scales_computes_what_the_network_has_learned_with():
    """Its grid is finer behind a ReLU (255 steps of 127) and its first layer exact, so it isn't the same to the bit."""
    model = seen(with_rounded_kernels(network(width=0.25)), batches=6)
    exported = export_with_scales(model, SPEC)
    source = prepare(exported.model)
    x = images(4)
    trained, _ = predictions(model, x)
    exact, _ = onnx_predictions(source.model.SerializeToString(), x)
    quantized = quantize(source.simplified, exported.tensor_scales)
    assert quantized.layers > quantized.of / 2
    rounded, _ = onnx_predictions(quantized.model.SerializeToString(), x)
    assert np.abs(rounded - exact).max() > 1e-4  # something was rounded
    assert np.abs(rounded - trained).mean() < 0.005  # of probabilities
    # With scales of another network it would be far off.
    strange, _ = onnx_predictions(
        quantize(
            source.simplified, {name: scale / 8 for name, scale in exported.tensor_scales.items()}
        ).model.SerializeToString(),
        x,
    )
    assert np.abs(strange - trained).mean() > 4 * np.abs(rounded - trained).mean()

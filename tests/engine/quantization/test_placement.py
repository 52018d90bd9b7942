"""Where quantisers are put; the lists here are worked out by hand from the rule."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from taomagic.engine.quantization import (
    ActivationQuantizer,
    QuantizedConv2d,
    QuantizedConvTranspose2d,
    layers,
    quantize,
    quantizers,
    restart,
    share_scales,
    without_quantization,
)


class Net(nn.Module):
    """A network of given parts, whose forward function is given, too."""

    def __init__(self, run, **parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.head = nn.Conv2d(4, 2, 1)
        self.run = run
        self.quantized = None

    def forward(self, x: Tensor) -> Tensor:
        if self.quantized is not None:
            return self.quantized(self, x)
        return self.head(self.run(self.parts, x)).flatten(1)


def quantized(net: Net) -> Net:
    net.quantized = quantize(net, heads=["head"], layer_name=lambda path: path.rpartition(".")[2])
    return net


def names(run, **parts: nn.Module) -> list[str]:
    return list(quantizers(quantized(Net(run, **parts))))


def conv(channels: int = 4, **settings) -> nn.Conv2d:
    return nn.Conv2d(3 if channels == 3 else 4, 4, 3, padding=1, **settings)


def test_nothing_is_rounded_between_convolution_normalisation_and_relu():
    run = lambda p, x: p["relu"](p["bn"](p["conv"](x)))  # noqa: E731
    assert names(run, conv=conv(3), bn=nn.BatchNorm2d(4), relu=nn.ReLU()) == ["Input_qdq", "relu_qdq"]


def test_a_normalisation_that_no_relu_follows_is_rounded():
    run = lambda p, x: p["sigmoid"](p["bn"](p["conv"](x)))  # noqa: E731
    found = names(run, conv=conv(3), bn=nn.BatchNorm2d(4), sigmoid=nn.Sigmoid())
    assert found == ["Input_qdq", "bn_qdq", "sigmoid_qdq"]


def test_a_normalisation_that_no_convolution_precedes_is_rounded():
    run = lambda p, x: p["relu"](p["bn"](p["pool"](p["conv"](x))))  # noqa: E731
    found = names(run, conv=conv(3), pool=nn.MaxPool2d(2), bn=nn.BatchNorm2d(4), relu=nn.ReLU())
    assert found == ["Input_qdq", "conv_qdq", "pool_qdq", "bn_qdq", "relu_qdq"]


def test_a_normalisation_with_two_followers_is_rounded():
    def run(p, x):
        y = p["bn"](p["conv"](x))
        return p["relu"](y) + y

    found = names(run, conv=conv(3), bn=nn.BatchNorm2d(4), relu=nn.ReLU())
    assert found == ["Input_qdq", "bn_qdq", "relu_qdq", "add_qdq"]


def test_a_convolution_that_others_than_a_normalisation_follow_is_rounded():
    def run(p, x):
        y = p["conv"](x)
        return p["relu"](p["bn"](y)) * y

    found = names(run, conv=conv(3), bn=nn.BatchNorm2d(4), relu=nn.ReLU())
    assert found == ["Input_qdq", "conv_qdq", "relu_qdq", "multiply_qdq"]


def test_a_convolution_with_bias_and_relu_is_rounded_twice():
    run = lambda p, x: p["relu"](p["conv"](x))  # noqa: E731
    assert names(run, conv=conv(3), relu=nn.ReLU()) == ["Input_qdq", "conv_qdq", "relu_qdq"]


def test_sums_and_concatenations_are_rounded_and_numbered():
    def run(p, x):
        y = p["first"](x)
        y = p["second"](y) + y
        y = y + y
        return p["narrow"](torch.cat([y, y], dim=1))

    found = names(run, first=conv(3), second=conv(), narrow=nn.Conv2d(8, 4, 1))
    assert found == [
        "Input_qdq", "first_qdq", "second_qdq", "add_qdq", "add_1_qdq", "concatenate_qdq", "narrow_qdq",
    ]  # fmt: skip


def test_layers_that_compute_nothing_are_passed_over():
    run = lambda p, x: p["identity"](p["pad"](p["dropout"](p["conv"](x))))  # noqa: E731
    found = names(run, conv=conv(3), dropout=nn.Dropout(), pad=nn.ZeroPad2d(1), identity=nn.Identity())
    assert found == ["Input_qdq", "conv_qdq"]


def test_the_head_stays_as_it_is():
    net = quantized(Net(lambda p, x: p["conv"](x), conv=conv(3)))
    assert type(net.head) is nn.Conv2d
    assert type(net.parts["conv"]) is QuantizedConv2d


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(), nn.PReLU(), nn.ELU()])
def test_the_relu_family_becomes_relu6(activation):
    net = quantized(
        Net(lambda p, x: p["act"](p["bn"](p["conv"](x))), conv=conv(3), bn=nn.BatchNorm2d(4), act=activation)
    )
    assert isinstance(net.parts["act"], nn.ReLU6)
    assert list(quantizers(net)) == ["Input_qdq", "act_qdq"]


def test_other_activations_stay():
    net = quantized(
        Net(lambda p, x: p["act"](p["bn"](p["conv"](x))), conv=conv(3), bn=nn.BatchNorm2d(4), act=nn.SiLU())
    )
    assert isinstance(net.parts["act"], nn.SiLU)
    assert list(quantizers(net)) == ["Input_qdq", "bn_qdq", "act_qdq"]


def test_transposed_and_depthwise_convolutions_round_their_kernels():
    def run(p, x):
        return p["up"](p["depthwise"](p["conv"](x)))

    net = quantized(
        Net(
            run,
            conv=conv(3),
            depthwise=conv(groups=4),
            up=nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1),
        )
    )
    assert isinstance(net.parts["depthwise"], QuantizedConv2d)
    assert isinstance(net.parts["up"], QuantizedConvTranspose2d)
    assert net.eval()(torch.randn(1, 3, 6, 6)).shape == (1, 2 * 12 * 12)
    weight = net.parts["up"].weight
    with torch.no_grad():
        weight[0, 0, 0, 0] = 12.7  # steps of 0.1: all else, at most 0.17, becomes 0, 0.1 or 0.2
    x = torch.ones(1, 4, 3, 3)
    expected = torch.nn.functional.conv_transpose2d(
        x, (weight * 10).round() / 10, net.parts["up"].bias, 2, 1, 1
    )
    torch.testing.assert_close(net.parts["up"](x), expected)


def test_an_operation_without_a_rule_is_refused_by_its_name():
    with pytest.raises(ValueError, match=r"no rule for quantising call_function .*sin"):
        quantized(Net(lambda p, x: torch.sin(p["conv"](x)), conv=conv(3)))


def test_a_head_that_is_not_there_is_refused_by_its_name():
    net = Net(lambda p, x: p["conv"](x), conv=conv(3))
    with pytest.raises(ValueError, match="no head 'tail'"):
        quantize(net, heads=["head", "tail"], layer_name=str)


def small() -> Net:
    torch.manual_seed(3)
    run = lambda p, x: p["relu"](p["bn"](p["conv"](x)))  # noqa: E731
    return quantized(Net(run, conv=conv(3), bn=nn.BatchNorm2d(4), relu=nn.ReLU()))


def test_parameters_keep_their_names_and_the_scales_are_buffers_of_their_own():
    plain = Net(lambda p, x: p["conv"](x), conv=conv(3))
    before = set(plain.state_dict())
    added = set(quantized(plain).state_dict()) - before
    assert added == {
        f"quantizers.{name}_qdq.{buffer}" for name in ("Input", "conv") for buffer in ("scale", "seen")
    }


def test_a_deep_copy_has_scales_of_its_own():
    net = small().train()
    twin = copy.deepcopy(net)
    twin(torch.full((2, 3, 8, 8), 9.0))
    assert quantizers(twin)["Input_qdq"].scale.item() == pytest.approx(9.0)
    assert quantizers(net)["Input_qdq"].scale.item() == 6.0


def test_training_mode_and_the_gradient_reach_everything():
    net = small().train()
    net(torch.randn(2, 3, 8, 8)).square().sum().backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0
        for n, p in net.named_parameters()
        if "conv.bias" not in n
    )
    assert all(q.seen.item() > 0 for q in quantizers(net).values())


def test_without_quantisation_the_network_is_the_float_one_with_relu6():
    net = small().eval()
    x = torch.randn(2, 3, 8, 8)
    expected = net.head(torch.nn.functional.relu6(
        net.parts["bn"](torch.nn.functional.conv2d(x, net.parts["conv"].weight, net.parts["conv"].bias, padding=1))
    )).flatten(1)  # fmt: skip
    assert not torch.allclose(net(x), expected, atol=1e-4)
    without_quantization(net)
    assert not quantizers(net)
    torch.testing.assert_close(net(x), expected)


def test_what_stands_in_for_a_quantiser_is_asked_for_by_name():
    asked = []

    def instead(name: str, quantizer: ActivationQuantizer) -> nn.Module:
        asked.append((name, quantizer.scale.item()))
        return nn.Identity()

    without_quantization(small(), instead)
    assert asked == [("Input_qdq", 6.0), ("relu_qdq", 6.0)]


def test_a_restart_lets_the_next_batch_decide_all_scales():
    net = small().train()
    net(torch.full((2, 3, 8, 8), 9.0))
    restart(net)
    net(torch.full((2, 3, 8, 8), 2.0))
    assert quantizers(net)["Input_qdq"].scale.item() == pytest.approx(2.0)


def test_shared_scales_follow_the_largest_magnitude_of_all_processes(monkeypatch):
    # The other process has seen a 9 everywhere.
    monkeypatch.setattr(layers, "max_over_ranks", lambda value: value.clamp(min=9.0))
    net = small().train()
    net(torch.full((2, 3, 8, 8), 2.0))
    assert quantizers(net)["Input_qdq"].scale.item() == pytest.approx(2.0)
    restart(net)
    share_scales(net)
    net(torch.full((2, 3, 8, 8), 2.0))
    assert quantizers(net)["Input_qdq"].scale.item() == pytest.approx(9.0)

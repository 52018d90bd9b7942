from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taomagic.engine.pruning.prune import PruneReport, prune
from taomagic.errors import UsageProblem

from .nets import rebuilt


def conv(inputs: int, outputs: int, kernel: int = 3, **settings: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **settings)


class Unit(nn.Module):
    """Convolution, batch normalisation, activation: where the last is zero, the channel carries nothing."""

    def __init__(self, inputs: int, outputs: int, **settings: int) -> None:
        super().__init__()
        self.conv = conv(inputs, outputs, **settings)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)))


class ResidualChain(nn.Module):
    """Two identity shortcuts in a row: the three convolutions on the trunk share their channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = Unit(3, 24), Unit(24, 32), Unit(32, 24)
        self.c, self.d = Unit(24, 40), Unit(40, 24)
        self.head = nn.Conv2d(24, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.b(self.a(x))
        x += self.d(self.c(x))
        return self.head(F.max_pool2d(x, 2))


class Concatenated(nn.Module):
    """An inception block: branches side by side, one of them twice, then a residual over the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = Unit(3, 16), Unit(16, 24), Unit(16, 32)
        self.three, self.four = Unit(56, 24), Unit(24, 32)
        self.head = nn.Conv2d(56, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        both = torch.cat([self.one(x), self.two(x)], dim=1)
        third = self.three(both)
        return self.head(both + torch.cat((third, self.four(third)), 1))


class Depthwise(nn.Module):
    """A separable convolution over a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = Unit(3, 24), Unit(3, 16)
        self.depthwise, self.pointwise = Unit(40, 40, groups=40), Unit(40, 32, kernel=1)
        self.head = nn.Conv2d(32, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pointwise(self.depthwise(torch.cat([self.one(x), self.two(x)], dim=1))))


class Grouped(nn.Module):
    """A grouped convolution (not a depthwise one) between two ordinary ones."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.grouped, self.two = Unit(3, 32), Unit(32, 32, groups=4), Unit(32, 32)
        self.head = nn.Conv2d(32, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.grouped(self.one(x))))


def ready(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give a net uneven filters, a head that stays, and statistics that tell the number of their channel."""
    torch.manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            strength = 10 ** torch.empty(module.out_channels).uniform_(-2, 0)
            module.weight.data.copy_(torch.randn_like(module.weight) * strength[:, None, None, None])
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            module.running_mean.copy_(torch.arange(module.num_features) / 100)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net.eval()


def silenced(net: nn.Module, report: PruneReport) -> nn.Module:
    """Return the whole net with the pruned channels switched off: what pruning has to be equal to."""
    silent = copy.deepcopy(net)
    for path, module in silent.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            kept = (report.state_dict[f"{path}.running_mean"] * 100).round().long()
            mask = torch.zeros(module.num_features)
            mask[kept] = 1
            module.weight.data *= mask
            module.bias.data *= mask
    return silent.eval()


def cut(net: nn.Module, **settings: object) -> PruneReport:
    settings = {"threshold": 0.3, "granularity": 4, "min_filters": 4, "excluded": ["head"], **settings}
    return prune(net, **settings)


def widths(report: PruneReport) -> dict[str, int]:
    return {layer.name.removesuffix(".conv"): layer.kept for layer in report.layers}


@pytest.mark.parametrize("equalization", ["union", "intersection", "arithmetic_mean", "geometric_mean"])
@pytest.mark.parametrize("net_class", [ResidualChain, Concatenated, Depthwise, Grouped])
def test_the_pruned_net_equals_the_whole_one_with_those_channels_off(net_class, equalization):
    net = ready(net_class()).double()
    report = cut(net, equalization=equalization)
    small = rebuilt(net, report)
    x = torch.randn(2, 3, 16, 16).double()
    assert report.ratio < 0.9
    assert report.parameters_after < report.parameters_before
    torch.testing.assert_close(small(x), silenced(net, report)(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("net_class", [ResidualChain, Concatenated, Depthwise, Grouped])
def test_a_threshold_of_zero_changes_nothing(net_class):
    net = ready(net_class())
    report = cut(net, threshold=0.0)
    assert report.channels == {}
    assert report.ratio == 1.0
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(rebuilt(net, report)(x), net(x))


def test_a_chain_of_shortcuts_keeps_the_same_channels_throughout():
    net = ready(ResidualChain())
    report = cut(net)
    kept = [report.state_dict[f"{name}.bn.running_mean"].tolist() for name in ("stem", "b", "d")]
    assert kept[0] == kept[1] == kept[2]
    assert len(kept[0]) < 24


class Pair(nn.Module):
    """Two convolutions that are added up."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = conv(1, 2, 1), conv(1, 2, 1), nn.Conv2d(2, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.a(x) + self.b(x))


@pytest.mark.parametrize(
    ("equalization", "threshold", "expected"),
    [
        # Norms (10, 1) and (0.1, 0.4) become (1, 0.1) and (0.25, 1): normalised first, then merged.
        ("union", 0.9, (0, 1)),  # (1, 1)
        ("intersection", 0.2, (0,)),  # (0.25, 0.1)
        ("intersection", 0.09, (0, 1)),
        ("arithmetic_mean", 0.6, (0,)),  # (0.625, 0.55)
        ("arithmetic_mean", 0.54, (0, 1)),
        ("geometric_mean", 0.32, (0,)),  # (0.5, 0.3162)
        ("geometric_mean", 0.316, (0, 1)),
    ],
)
def test_hand_worked_statistics_of_an_addition(equalization, threshold, expected):
    net = Pair()
    net.a.weight.data = torch.tensor([10.0, -1.0]).reshape(2, 1, 1, 1)
    net.b.weight.data = torch.tensor([-0.1, 0.4]).reshape(2, 1, 1, 1)
    report = cut(net, equalization=equalization, threshold=threshold, granularity=1, min_filters=0)
    kept = {layer.name: layer.indices for layer in report.layers}
    assert kept == {"a": expected, "b": expected, "head": (0, 1, 2, 3, 4)}
    assert torch.equal(report.state_dict["head.weight"], net.head.weight[:, list(expected)])


def test_hand_worked_statistics_with_the_l2_normaliser():
    net = Pair()
    net.a.weight.data = torch.tensor([3.0, 4.0]).reshape(2, 1, 1, 1)  # 3 / 5 · 2 = 1.2 and 4 / 5 · 2 = 1.6
    net.b.weight.data = torch.tensor([6.0, 8.0]).reshape(2, 1, 1, 1)  # the same, for it is twice as strong
    for threshold, expected in ((1.19, (0, 1)), (1.21, (1,)), (1.61, (1,))):
        report = cut(net, normalizer="L2", threshold=threshold, granularity=1, min_filters=0)
        assert {layer.name: layer.indices for layer in report.layers}["b"] == expected


def test_a_network_in_training_is_pruned_as_outside_of_it_and_stays_in_training():
    net = ready(ResidualChain())
    expected = cut(net).channels
    net.train()
    net.a.bn.eval()
    assert cut(net).channels == expected
    assert net.training
    assert not net.a.bn.training


def test_union_keeps_what_any_layer_wants_and_intersection_what_all_want():
    net = ready(ResidualChain())
    counts = [widths(cut(net, equalization=e, granularity=1))["stem"] for e in ("intersection", "union")]
    assert counts[0] < counts[1]


def test_an_excluded_layer_keeps_all_and_so_do_those_that_share_its_channels():
    net = ready(ResidualChain())
    report = cut(net, excluded=["head", "d.conv"])
    assert {name: widths(report)[name] for name in ("stem", "b", "d")} == {"stem": 24, "b": 24, "d": 24}
    assert widths(report)["a"] < 32


def test_a_depthwise_filter_goes_with_its_channel():
    report = cut(ready(Depthwise()))
    count = widths(report)
    assert count["depthwise"] == count["one"] + count["two"] < 40
    assert report.state_dict["depthwise.conv.weight"].shape == (count["depthwise"], 1, 3, 3)
    assert report.state_dict["pointwise.conv.weight"].shape[1] == count["depthwise"]


def test_a_depthwise_filter_has_a_say_in_its_channel():
    net = ready(Depthwise())
    net.one.conv.weight.data.fill_(1.0)
    net.depthwise.conv.weight.data[:24] = 1e-3
    net.depthwise.conv.weight.data[5] = 1.0
    report = cut(net, equalization="intersection", granularity=1, min_filters=1)
    assert (report.state_dict["one.bn.running_mean"] * 100).round().tolist() == [5.0]


def test_the_neighbours_of_a_grouped_convolution_are_left_alone():
    count = widths(cut(ready(Grouped())))
    assert (count["one"], count["grouped"]) == (32, 32)
    assert count["two"] < 32


def test_outputs_are_never_cut_even_without_an_exclusion():
    net = ready(ResidualChain())
    assert cut(net, excluded=[]).state_dict["head.weight"].shape[0] == 5


def test_what_is_not_understood_is_left_alone():
    class Shuffled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = Unit(3, 32), Unit(8, 32)
            self.head = nn.Conv2d(32, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.two(F.pixel_shuffle(self.one(x), 2)))

    net = ready(Shuffled())
    report = cut(net)
    assert widths(report)["one"] == 32
    assert widths(report)["two"] < 32
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(rebuilt(net, report)(x), silenced(net, report)(x), rtol=1e-4, atol=1e-5)


def test_a_single_channel_that_is_broadcast_ties_nothing():
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.mask = Unit(3, 32), Unit(3, 1)
            self.head = nn.Conv2d(32, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.one(x) * self.mask(x))

    count = widths(cut(ready(Masked())))
    assert count["mask"] == 1
    assert count["one"] < 32


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_kept_filters_compute_the_same_bits_where_nothing_before_them_was_cut():
    net = ready(ResidualChain())
    report = cut(net)
    kept = (report.state_dict["stem.bn.running_mean"] * 100).round().long()
    small = rebuilt(net, report)
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(report.state_dict["stem.conv.weight"], net.stem.conv.weight[kept])
    # The library may sum in another order for another number of filters; plain arithmetic may not.
    with torch.backends.mkldnn.flags(enabled=False):
        assert torch.equal(small.stem(x), net.stem(x)[:, kept])


def test_the_model_itself_is_not_changed():
    net = ready(ResidualChain())
    before = copy.deepcopy(net.state_dict())
    cut(net)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_layers_have_the_names_that_the_caller_gives_them():
    report = cut(ready(ResidualChain()), layer_name=lambda path: path.replace(".", "_"), excluded=["a_conv"])
    assert "a_conv" not in report.channels
    assert set(report.channels) == {"stem_conv", "b_conv", "c_conv", "d_conv"}
    assert {layer.name: (layer.kept, layer.total) for layer in report.layers}["head"] == (5, 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"excluded": ["heat"]}, "Did you mean head"),
        ({"excluded": ["zzzzz"]}, "There are "),
        ({"granularity": 0}, "-pg is 0"),
        ({"min_filters": -1}, "-nf is -1"),
        ({"threshold": -1.0}, "-pth is -1"),
        ({"normalizer": "L1"}, "max, L2"),
        ({"equalization": "mean"}, "arithmetic_mean"),
    ],
)
def test_wrong_arguments_are_named_with_what_is_allowed(settings, message):
    with pytest.raises(UsageProblem) as caught:
        cut(ready(ResidualChain()), **settings)
    assert message in str(caught.value)


def test_the_log_says_what_happens(caplog):
    with caplog.at_level("INFO"):
        cut(ready(ResidualChain()))
    assert caplog.messages == [
        "Exploring graph for retainable indices",
        "Pruning model and appending pruned nodes to new graph",
    ]

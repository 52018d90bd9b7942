from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taomagic.engine.quantization.fake_quantize import (
    fake_quantize,
    fake_quantize_weight,
    largest_magnitude,
)
from taomagic.engine.quantization.layers import ActivationQuantizer, QuantizedConv2d, converted


def test_values_go_to_the_nearest_multiple_of_the_step():
    # A scale of 12.7 makes steps of 0.1; 0.25 and 0.35 lie beside the middle so that no rounding decides them.
    x = torch.tensor([0.0, 0.04, 0.06, -0.06, 1.23, -1.27, 12.7, 12.62])
    rounded = fake_quantize(x, torch.tensor(12.7))
    torch.testing.assert_close(rounded, torch.tensor([0.0, 0.0, 0.1, -0.1, 1.2, -1.3, 12.7, 12.6]))


def test_halves_go_to_the_even_neighbour_as_on_the_device():
    # Steps of 1: exact in binary.
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5])
    assert fake_quantize(x, torch.tensor(127.0)).tolist() == [0.0, 2.0, 2.0, 0.0, -2.0]


def test_the_grid_ends_at_minus_128_and_127_steps():
    x = torch.tensor([126.6, 127.4, 128.0, 1000.0, -127.6, -128.4, -129.0, -1000.0])
    expected = [127.0, 127.0, 127.0, 127.0, -128.0, -128.0, -128.0, -128.0]
    assert fake_quantize(x, torch.tensor(127.0)).tolist() == expected


def test_the_gradient_passes_inside_the_grid_and_ends_beyond_it():
    x = torch.tensor(
        [0.0, 0.3, -100.7, 127.0, 127.4, 127.6, 500.0, -128.4, -128.6, -500.0], requires_grad=True
    )
    weights = torch.arange(1.0, 11.0)
    (fake_quantize(x, torch.tensor(127.0)) * weights).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 0.0, 8.0, 0.0, 0.0]


def test_a_weight_is_rounded_by_its_own_largest_magnitude_and_all_of_it_has_a_gradient():
    weight = torch.tensor([[0.5, -2.54], [0.011, 0.029]], requires_grad=True)  # steps of 0.02
    rounded = fake_quantize_weight(weight)
    torch.testing.assert_close(rounded, torch.tensor([[0.5, -2.54], [0.02, 0.02]]))
    (rounded * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_a_tensor_of_zeros_stays_one():
    assert fake_quantize_weight(torch.zeros(3, 3)).tolist() == torch.zeros(3, 3).tolist()


def test_an_empty_tensor_has_no_magnitude():
    assert largest_magnitude(torch.zeros(0, 3, 4, 4)).item() == 0.0
    assert fake_quantize(torch.zeros(0, 3), torch.tensor(1.0)).shape == (0, 3)


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=30),
    scale=st.floats(2**-10, 1e4, width=32),
)
def test_it_is_what_pytorchs_own_operator_computes(values, scale):
    x, limit = torch.tensor(values), torch.tensor(scale)
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    fake_quantize(mine, limit).sum().backward()
    step = limit / 127
    theirs = torch.fake_quantize_per_tensor_affine(other, step, torch.zeros((), dtype=torch.int32), -128, 127)
    theirs.sum().backward()
    # Where a value lies between two points, the last bit of the step may decide.
    position = (x / step).abs()
    clear = (position - position.floor() - 0.5).abs() > 1e-5 * (1 + position)
    torch.testing.assert_close(
        fake_quantize(x, limit)[clear], theirs.detach()[clear], rtol=1e-5, atol=1e-6 * scale
    )
    assert mine.grad is not None
    assert other.grad is not None
    assert torch.equal(mine.grad[clear], other.grad[clear])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20))
def test_what_is_rounded_already_stays(values):
    once = fake_quantize_weight(torch.tensor(values))
    torch.testing.assert_close(fake_quantize_weight(once), once, rtol=1e-6, atol=0)


def test_the_scale_is_the_average_of_the_largest_magnitudes_corrected_for_its_start():
    quantizer = ActivationQuantizer().train()
    assert quantizer.scale.item() == 6.0
    quantizer(torch.tensor([1.0, -8.0]))
    assert quantizer.scale.item() == pytest.approx(8.0)
    quantizer(torch.tensor([2.0, -1.0]))
    # (0.999 · 0.001 · 8 + 0.001 · 2) / (1 - 0.999²)
    assert quantizer.scale.item() == pytest.approx((0.999 * 8 + 2) / 1.999, rel=1e-6)
    quantizer(torch.tensor([5.0]))
    assert quantizer.scale.item() == pytest.approx(
        (0.999**2 * 8 + 0.999 * 2 + 5) / (1 + 0.999 + 0.999**2), rel=1e-6
    )


def test_after_a_thousand_batches_a_new_one_weighs_a_thousandth():
    quantizer = ActivationQuantizer().train()
    quantizer.scale.fill_(2.0)
    quantizer.seen.fill_(1.0)
    quantizer(torch.tensor([3.0]))
    assert quantizer.scale.item() == pytest.approx(2.001)


def test_a_batch_is_rounded_on_the_grid_that_it_helped_to_find():
    quantizer = ActivationQuantizer().train()
    rounded = quantizer(torch.tensor([12.7, 0.26]))
    torch.testing.assert_close(rounded, torch.tensor([12.7, 0.3]))


def test_outside_training_the_scale_stands_still():
    quantizer = ActivationQuantizer().eval()
    rounded = quantizer(torch.tensor([100.0, 0.01]))
    torch.testing.assert_close(rounded, torch.tensor([6.0, 0.0]))
    assert (quantizer.scale.item(), quantizer.seen.item()) == (6.0, 0.0)


def test_after_a_restart_the_next_batch_decides():
    quantizer = ActivationQuantizer().train()
    quantizer(torch.tensor([8.0]))
    quantizer.restart()
    assert quantizer.scale.item() == pytest.approx(8.0)
    quantizer(torch.tensor([3.0]))
    assert quantizer.scale.item() == pytest.approx(3.0)


def test_in_half_precision_the_rounding_is_done_in_float32():
    quantizer = ActivationQuantizer().train()
    x = torch.tensor([127.0, 100.6, 3.4], dtype=torch.bfloat16, requires_grad=True)
    rounded = quantizer(x)
    assert rounded.dtype == torch.bfloat16
    assert rounded.tolist() == [127.0, 100.0, 3.0]  # bfloat16 itself has made 100.5 of 100.6: half, so even
    rounded.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 1.0, 1.0]


def test_the_result_and_the_gradient_keep_the_memory_layout():
    x = torch.randn(2, 8, 5, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    rounded = fake_quantize(x, torch.tensor(3.0))
    assert rounded.is_contiguous(memory_format=torch.channels_last)
    (gradient,) = torch.autograd.grad(rounded, x, torch.ones(2, 8, 5, 5))
    assert gradient.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 1), (1, 2, 0), (1, 1, 0)])
@pytest.mark.parametrize("training", [True, False])
def test_a_quantised_convolution_convolves_with_the_rounded_kernel(groups, kernel, stride, padding, training):
    plain = torch.nn.Conv2d(8, 16, kernel, stride, padding, groups=groups)
    layer = converted(plain, QuantizedConv2d).train(training)
    assert layer.weight is plain.weight
    assert layer.bias is plain.bias
    x = torch.randn(2, 8, 9, 7)
    expected = torch.nn.functional.conv2d(
        x, fake_quantize_weight(plain.weight), plain.bias, stride, padding, groups=groups
    )
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)

"""The MultiBox loss against numbers worked by hand and a slow reference with autograd."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taomagic.engine.ssd.loss import multibox_loss
from taomagic.engine.ssd.targets import Targets


def slow_loss(scores, offsets, targets, ratio, alpha):
    probabilities = torch.softmax(scores, dim=-1).clamp(min=1e-15)
    positives, negatives, boxes = [], [], []
    for image in range(scores.shape[0]):
        for anchor in range(scores.shape[1]):
            label = int(targets.classes[image, anchor])
            if label > 0:
                positives.append(-torch.log(probabilities[image, anchor, label]))
                difference = (offsets[image, anchor] - targets.offsets[image, anchor]).abs()
                boxes.append(torch.where(difference < 1, 0.5 * difference**2, difference - 0.5).sum())
            elif label == 0:
                negatives.append(-torch.log(probabilities[image, anchor, 0]))
    negatives = sorted(negatives, key=lambda loss: loss.item(), reverse=True)[: int(ratio * len(positives))]
    zero = scores.sum() * 0
    return (sum(positives, zero) + sum(negatives, zero) + alpha * sum(boxes, zero)) / max(1, len(positives))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1.0, 2.5, 3.0]), st.sampled_from([0.5, 1.0]))
def test_value_and_gradients_equal_the_slow_reference(seed, ratio, alpha):
    torch.manual_seed(seed)
    scores = (torch.randn(2, 30, 4) * 3).requires_grad_()
    offsets = torch.randn(2, 30, 4).requires_grad_()
    classes = torch.where(torch.rand(2, 30) < 0.2, torch.randint(-1, 4, (2, 30)), 0)
    targets = Targets(classes, torch.randn(2, 30, 4))
    fast = multibox_loss(scores, offsets, targets, alpha=alpha, neg_pos_ratio=ratio).total
    slow = slow_loss(scores, offsets, targets, ratio, alpha)
    assert torch.allclose(fast, slow, atol=1e-4)
    fast_gradients = torch.autograd.grad(fast, (scores, offsets), retain_graph=True)
    slow_gradients = torch.autograd.grad(slow, (scores, offsets), allow_unused=True)
    for ours, theirs in zip(fast_gradients, slow_gradients, strict=True):
        assert torch.allclose(ours, torch.zeros_like(ours) if theirs is None else theirs, atol=1e-4)


def test_hard_negatives_are_chosen_over_the_whole_batch():
    # One positive in image 0; with ratio 1 the one negative that counts is the worst of the batch, in image 1.
    scores = torch.zeros(2, 2, 2)
    scores[1, 1] = torch.tensor([0.0, 5.0])
    targets = Targets(torch.tensor([[1, 0], [0, 0]]), torch.zeros(2, 2, 4))
    parts = multibox_loss(scores, torch.zeros(2, 2, 4), targets, neg_pos_ratio=1.0)
    expected = math.log(2) + math.log(1 + math.exp(5))
    assert math.isclose(float(parts.classification), expected, rel_tol=1e-5)


def test_neutral_anchors_take_no_part():
    scores = torch.zeros(1, 2, 2)
    scores[0, 1] = torch.tensor([0.0, 50.0])
    with_neutral = Targets(torch.tensor([[1, -1]]), torch.zeros(1, 2, 4))
    assert math.isclose(
        float(multibox_loss(scores, torch.zeros(1, 2, 4), with_neutral).total), math.log(2), rel_tol=1e-5
    )


def test_a_batch_without_objects_costs_nothing():
    targets = Targets(torch.zeros(1, 5, dtype=torch.int64), torch.zeros(1, 5, 4))
    scores = torch.randn(1, 5, 3, requires_grad=True)
    loss = multibox_loss(scores, torch.zeros(1, 5, 4), targets).total
    assert float(loss.detach()) == 0.0


def test_half_pixel_errors_are_squared_and_large_ones_linear():
    targets = Targets(torch.tensor([[1]]), torch.zeros(1, 1, 4))
    offsets = torch.tensor([[[0.5, 0.0, 2.0, -3.0]]])
    parts = multibox_loss(torch.zeros(1, 1, 2), offsets, targets, alpha=2.0)
    assert math.isclose(float(parts.localisation), 2.0 * (0.125 + 1.5 + 2.5), rel_tol=1e-6)

"""The loss and its gradients against the formulas written out for one anchor at a time, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taomagic.engine.ssd.loss import MAX_CLASS_LOSS, multibox_loss
from taomagic.engine.ssd.targets import NEUTRAL, Targets, match

SMALLEST = 1e-15


def slow_loss(scores, offsets, classes, wanted, ratio, alpha):
    """Return the loss of a batch: the mean over its images of (positives + negatives + α·boxes)/max(1, P)·B."""
    images, anchors, _ = scores.shape
    positive = [(i, a) for i in range(images) for a in range(anchors) if classes[i][a] > 0]
    negative = [(i, a) for i in range(images) for a in range(anchors) if classes[i][a] == 0]

    def class_loss(i, a, label):
        exponents = torch.exp(scores[i, a] - scores[i, a].detach().max())
        probability = exponents[label] / exponents.sum()
        return -torch.log(probability) if probability > SMALLEST else torch.tensor(-math.log(SMALLEST))

    def box_loss(i, a):
        total = torch.zeros((), dtype=scores.dtype)
        for k in range(4):
            x = torch.abs(offsets[i, a, k] - wanted[i][a][k])
            total = total + (0.5 * x * x if x < 1 else x - 0.5)
        return total

    losses = {(i, a): class_loss(i, a, 0) for i, a in negative}
    count = min(int(ratio * len(positive)), sum(bool(loss != 0) for loss in losses.values()))
    hardest = sorted(losses, key=lambda place: -losses[place].item())[:count]
    items = []
    for image in range(images):
        item = torch.zeros((), dtype=scores.dtype)
        for i, a in positive:
            if i == image:
                item = item + class_loss(i, a, classes[i][a]) + alpha * box_loss(i, a)
        for i, a in hardest:
            if i == image:
                item = item + losses[i, a]
        items.append(item / max(1, len(positive)) * images)
    return sum(items) / images


@st.composite
def batches(draw):
    """Scores, offsets and targets, by a seed: equal losses, of which either may be mined, have no chance."""
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    images, anchors, classes = draw(st.integers(1, 3)), draw(st.integers(1, 12)), draw(st.integers(2, 4))
    # With a spread of 30, many probabilities are less than 1e-15.
    spread = draw(st.sampled_from([0.5, 3.0, 30.0]))
    share = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    scores = torch.randn(images, anchors, classes, generator=random, dtype=torch.float64) * spread
    offsets = torch.randn(images, anchors, 4, generator=random, dtype=torch.float64) * 1.5
    chosen = torch.rand(images, anchors, generator=random) < share
    labels = torch.randint(NEUTRAL, classes, (images, anchors), generator=random)
    wanted = torch.randn(images, anchors, 4, generator=random, dtype=torch.float64)
    return scores, offsets, Targets(torch.where(chosen, labels, 0), wanted)


@settings(max_examples=50, deadline=None)
@given(batches(), st.sampled_from([1.0, 2.5, 3.0]), st.sampled_from([0.25, 1.0, 2.0]))
def test_value_and_gradients_are_those_of_the_formulas(batch, ratio, alpha):
    scores, offsets, targets = batch
    scores.requires_grad_()
    offsets.requires_grad_()
    fast = multibox_loss(scores, offsets, targets, alpha=alpha, neg_pos_ratio=ratio).total
    slow = slow_loss(scores, offsets, targets.classes.tolist(), targets.offsets.tolist(), ratio, alpha)
    assert fast.item() == pytest.approx(slow.item(), rel=1e-5, abs=1e-5)
    # Both may be constants: no positives, or every probability clipped.
    got = torch.autograd.grad(fast + 0 * (scores.sum() + offsets.sum()), (scores, offsets))
    expected = torch.autograd.grad(slow + 0 * (scores.sum() + offsets.sum()), (scores, offsets))
    # The loss itself is computed in float32, which at scores of 100 is 8e-6 apart from the next number.
    for ours, theirs in zip(got, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=2e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31))
def test_gradients_are_the_slopes_of_the_loss_from_matching_to_the_end(seed):
    # Boxes -> match -> loss, against differences of the slow loss: no autograd on the other side.
    random = torch.Generator().manual_seed(seed)

    def boxes(*shape):
        corner = torch.rand(*shape, 2, generator=random, dtype=torch.float64) * 0.6
        return torch.cat(
            [corner, corner + 0.1 + 0.3 * torch.rand(*shape, 2, generator=random, dtype=torch.float64)], -1
        )

    anchors, objects, labels = boxes(8), boxes(2, 2), torch.tensor([[1, 2], [2, 0]])
    targets = match(
        anchors,
        objects,
        labels,
        torch.tensor([0.1, 0.1, 0.2, 0.2], dtype=torch.float64),
        pos_iou_thresh=0.5,
        neg_iou_thresh=0.3,
    )
    scores = torch.randn(2, 8, 3, generator=random, dtype=torch.float64).requires_grad_()
    offsets = torch.randn(2, 8, 4, generator=random, dtype=torch.float64).requires_grad_()
    gradients = torch.autograd.grad(multibox_loss(scores, offsets, targets).total, (scores, offsets))
    step = 1e-6

    def slope(tensor, place):
        values = []
        for change in (step, -step):
            moved = tensor.detach().clone()
            moved[place] += change
            pair = (moved, offsets) if tensor is scores else (scores, moved)
            values.append(
                slow_loss(
                    pair[0].detach(),
                    pair[1].detach(),
                    targets.classes.tolist(),
                    targets.offsets.tolist(),
                    3.0,
                    1.0,
                ).item()
            )
        return (values[0] - values[1]) / (2 * step)

    for tensor, gradient in zip((scores, offsets), gradients, strict=True):
        places = torch.randint(0, 2 * 8 * tensor.shape[2], (6,), generator=random)
        for flat in places.tolist():
            place = tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), tensor.shape))
            assert gradient[place].item() == pytest.approx(slope(tensor, place), abs=1e-4)


def test_a_probability_below_the_clip_costs_a_constant_and_teaches_nothing():
    scores = torch.tensor([[[80.0, 0.0], [0.0, 80.0]]], dtype=torch.float64, requires_grad=True)
    targets = Targets(torch.tensor([[1, 0]]), torch.zeros(1, 2, 4))
    loss = multibox_loss(scores, torch.zeros(1, 2, 4), targets).classification
    assert loss.item() == pytest.approx(2 * -math.log(SMALLEST), rel=1e-6)
    assert pytest.approx(-math.log(SMALLEST)) == MAX_CLASS_LOSS
    assert torch.autograd.grad(loss, scores)[0].abs().max() == 0


def test_of_equally_hard_negatives_any_may_count_and_the_value_is_the_same():
    scores = torch.zeros(1, 9, 2, dtype=torch.float64)
    targets = Targets(torch.tensor([[1, 0, 0, 0, 0, 0, 0, 0, 0]]), torch.zeros(1, 9, 4))
    loss = multibox_loss(scores, torch.zeros(1, 9, 4), targets, neg_pos_ratio=3.0).classification
    assert loss.item() == pytest.approx(4 * math.log(2))

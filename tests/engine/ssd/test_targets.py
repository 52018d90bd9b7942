"""Matching against a slow implementation that follows the rules word by word."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taomagic.engine.boxes import decode, encode, iou_matrix, nms, pairwise_iou
from taomagic.engine.ssd.targets import BACKGROUND, NEUTRAL, match

VARIANCES = torch.tensor([0.1, 0.1, 0.2, 0.2])


def random_boxes(rng, count, low=0.03, high=0.5):
    centre, size = rng.random((count, 2)), rng.uniform(low, high, (count, 2))
    return torch.tensor(np.concatenate([centre - size / 2, centre + size / 2], axis=1), dtype=torch.float32)


def slow_match(anchors, boxes, labels, pos, neg):
    """Match one image: repeat the global best pair, then thresholds, one anchor at a time."""
    iou = pairwise_iou(boxes, anchors).numpy().copy()
    classes, owner = np.zeros(len(anchors), dtype=np.int64), np.full(len(anchors), -1)
    given_away = np.zeros(len(anchors), dtype=bool)
    left = iou.copy()
    for _ in range(len(boxes)):
        row, anchor = np.unravel_index(left.argmax(), left.shape)
        if left[row, anchor] <= 0:
            break
        owner[anchor], given_away[anchor] = row, True
        left[row, :] = 0
        left[:, anchor] = 0
    for anchor in range(len(anchors)):
        if given_away[anchor]:
            classes[anchor] = labels[owner[anchor]]
            continue
        best = int(iou[:, anchor].argmax())
        if iou[best, anchor] >= pos:
            owner[anchor], classes[anchor] = best, labels[best]
        elif iou[best, anchor] >= neg:
            classes[anchor] = NEUTRAL
    return classes, owner


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.sampled_from([(0.5, 0.5), (0.5, 0.3), (0.35, 0.35)]))
def test_matching_a_batch_equals_matching_each_image_by_the_book(seed, most, thresholds):
    rng = np.random.default_rng(seed)
    anchors = random_boxes(rng, 60)
    images = 3
    counts = rng.integers(0, most + 1, images)
    boxes, labels = torch.zeros(images, most, 4), torch.zeros(images, most, dtype=torch.int64)
    for i, count in enumerate(counts):
        boxes[i, :count] = random_boxes(rng, count)
        labels[i, :count] = torch.tensor(rng.integers(1, 4, count))
    pos, neg = thresholds
    targets = match(anchors, boxes, labels, VARIANCES, pos_iou_thresh=pos, neg_iou_thresh=neg)
    for i, count in enumerate(counts):
        if count == 0:
            assert (targets.classes[i] == BACKGROUND).all()
            continue
        classes, owner = slow_match(anchors, boxes[i, :count], labels[i, :count].numpy(), pos, neg)
        assert np.array_equal(targets.classes[i].numpy(), classes)
        positive = np.flatnonzero(owner >= 0)
        decoded = decode(targets.offsets[i, positive], anchors[positive], VARIANCES)
        assert torch.allclose(decoded, boxes[i, owner[positive]], atol=1e-4)
        assert (targets.offsets[i, owner < 0] == 0).all()


def test_every_object_gets_an_anchor_even_below_the_threshold():
    anchors = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]])
    boxes = torch.tensor([[[0.0, 0.0, 0.1, 0.1]]])
    targets = match(anchors, boxes, torch.tensor([[2]]), VARIANCES, pos_iou_thresh=0.5, neg_iou_thresh=0.5)
    assert targets.classes.tolist() == [[2, 0]]


def test_a_batch_without_objects_is_all_background():
    targets = match(
        torch.rand(7, 4), torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64), VARIANCES,
        pos_iou_thresh=0.5, neg_iou_thresh=0.5,
    )  # fmt: skip
    assert targets.classes.shape == (2, 7)
    assert (targets.classes == BACKGROUND).all()


@given(st.integers(0, 2**32 - 1))
def test_decoding_undoes_encoding(seed):
    rng = np.random.default_rng(seed)
    boxes, anchors = random_boxes(rng, 20), random_boxes(rng, 20)
    assert torch.allclose(decode(encode(boxes, anchors, VARIANCES), anchors, VARIANCES), boxes, atol=1e-4)


def test_encoding_of_a_hand_worked_box():
    # Anchor centre (.5, .5) size (.2, .4); box centre (.52, .46) size (.4, .2).
    anchor, box = torch.tensor([[0.4, 0.3, 0.6, 0.7]]), torch.tensor([[0.32, 0.36, 0.72, 0.56]])
    expected = torch.tensor([[0.02 / 0.2 / 0.1, -0.04 / 0.4 / 0.1, np.log(2) / 0.2, -np.log(2) / 0.2]])
    assert torch.allclose(encode(box, anchor, VARIANCES), expected.float(), atol=1e-5)


def test_nms_drops_what_overlaps_a_better_box_by_more_than_the_threshold():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 5], [20, 20, 30, 30]], dtype=np.float32)
    scores = np.array([0.9, 0.95, 0.5, 0.1], dtype=np.float32)
    assert nms(boxes, scores, 0.6, 10).tolist() == [1, 2, 3]
    assert nms(boxes, scores, 0.5, 10).tolist() == [1, 3]
    assert nms(boxes, scores, 0.5, 1).tolist() == [1]
    assert nms(boxes[:0], scores[:0], 0.5, 5).tolist() == []


@pytest.mark.parametrize("other", [[20, 20, 30, 30], [5, 5, 5, 5]])
def test_boxes_apart_or_empty_do_not_overlap(other):
    assert iou_matrix(np.array([[0.0, 0, 10, 10]]), np.array([other], dtype=float)).tolist() == [[0.0]]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 700), st.integers(1, 60))
def test_nms_in_blocks_equals_nms_one_box_at_a_time(seed, count, limit):
    rng = np.random.default_rng(seed)
    boxes, scores = random_boxes(rng, count).numpy(), rng.integers(0, 50, count) / 50
    order, kept = list(np.argsort(-scores, kind="stable")), []
    while order and len(kept) < limit:
        best = order.pop(0)
        kept.append(best)
        order = [
            i for i, iou in zip(order, iou_matrix(boxes[[best]], boxes[order])[0], strict=True) if iou <= 0.45
        ]
    assert nms(boxes, scores, 0.45, limit).tolist() == kept

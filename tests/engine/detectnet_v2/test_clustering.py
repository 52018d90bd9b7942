"""Clustering against worked examples and a slow DBSCAN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taomagic.engine.detectnet_v2.clustering import NOISE, cluster, dbscan
from taomagic.spec.settings_detectnet_v2 import Clustering, ClusteringSettings


def config(
    algorithm: Clustering = "DBSCAN",
    *,
    coverage: float = 0.1,
    height: int = 0,
    eps: float = 0.3,
    samples: float = 1,
    confidence: float = 0.0,
    iou: float | None = None,
    nms: float | None = None,
) -> ClusteringSettings:
    return ClusteringSettings(algorithm, coverage, height, eps, samples, confidence, iou, nms)


def grid(*cells: tuple[float, tuple[float, float, float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """One row of cells."""
    coverage = np.array([[share for share, _ in cells]], np.float32)
    return coverage, np.array([[box for _, box in cells]], np.float32)


A, NEAR_A, B = (0.0, 0.0, 100.0, 50.0), (10.0, 0.0, 110.0, 50.0), (300.0, 0.0, 340.0, 20.0)


def test_cells_of_one_object_become_one_box_weighted_by_their_coverage() -> None:
    found = cluster(*grid((0.9, A), (0.3, NEAR_A), (0.8, B), (0.05, B)), config(samples=0.05))
    # B weighs 0.8 and is no core with min_samples 1; A's two cells weigh 1.2.
    assert found.boxes.tolist() == [pytest.approx([2.5, 0.0, 102.5, 50.0])]
    assert found.confidence.tolist() == [pytest.approx(1.2)]


def test_the_mean_may_be_the_confidence() -> None:
    found = cluster(*grid((0.9, A), (0.3, NEAR_A)), config(), confidence="mean_cov")
    assert found.confidence.tolist() == [pytest.approx(0.6)]


def test_unsure_and_low_boxes_are_dropped() -> None:
    cells = grid((0.6, A), (0.6, A), (0.9, B), (0.9, B))
    assert len(cluster(*cells, config(confidence=1.5)).boxes) == 1, "A weighs 1.2 only"
    assert len(cluster(*cells, config(height=20)).boxes) == 1, "B is 20 high, and must be higher"
    assert len(cluster(*cells, config(height=19)).boxes) == 2


def test_the_surest_comes_first() -> None:
    found = cluster(*grid((0.6, A), (0.6, A), (0.9, B), (0.9, B)), config())
    assert found.confidence.tolist() == [pytest.approx(1.8), pytest.approx(1.2)]


def test_nothing_above_the_threshold_gives_nothing() -> None:
    for algorithm in ("DBSCAN", "NMS", "HYBRID"):
        found = cluster(*grid((0.1, A), (0.0, B)), config(algorithm))
        assert found.boxes.shape == (0, 4)
        assert found.confidence.shape == (0,)


def test_nms_keeps_the_best_of_those_that_overlap() -> None:
    found = cluster(*grid((0.5, NEAR_A), (0.9, A), (0.3, B), (0.15, B)), config("NMS", iou=0.5, nms=0.2))
    assert found.boxes.tolist() == [list(A), list(B)]
    assert found.confidence.tolist() == [pytest.approx(0.9), pytest.approx(0.3)]
    strict = cluster(*grid((0.5, NEAR_A), (0.9, A)), config("NMS", iou=0.9, nms=0.2))
    assert len(strict.boxes) == 2, "an overlap of 0.82 is allowed then"


def test_hybrid_keeps_the_best_cell_of_each_cluster() -> None:
    found = cluster(*grid((0.5, NEAR_A), (0.9, A), (0.6, B), (0.6, B)), config("HYBRID"))
    assert found.boxes.tolist() == [list(A), list(B)]
    assert found.confidence.tolist() == [pytest.approx(0.9), pytest.approx(0.6)]


def slow_dbscan(boxes: np.ndarray, weights: np.ndarray, eps: float, least: float) -> list[int]:
    def distance(i: int, j: int) -> float:
        if i == j:
            return 0.0
        a, b = boxes[i].astype(float), boxes[j].astype(float)
        shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
        return 1 - shared / union if union else 1.0

    count = len(boxes)
    near = [[j for j in range(count) if distance(i, j) <= eps + 1e-9] for i in range(count)]
    core = [sum(float(weights[j]) for j in near[i]) >= least - 1e-9 for i in range(count)]
    labels = [NOISE] * count
    found = 0
    for i in range(count):
        if core[i] and labels[i] == NOISE:
            waiting = [i]
            while waiting:
                j = waiting.pop(0)
                if labels[j] == NOISE:
                    labels[j] = found
                    waiting += near[j] if core[j] else []
            found += 1
    return labels


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 12),
            st.integers(0, 12),
            st.integers(1, 8),
            st.integers(1, 8),
            st.sampled_from([0.25, 0.5, 1.0]),
        ),
        max_size=14,
    ),
    st.sampled_from([0.15, 0.35, 0.62]),
    st.sampled_from([1.0, 1.5]),
)
def test_clusters_are_those_of_the_slow_reference(
    cells: list[tuple[int, int, int, int, float]], eps: float, least: float
) -> None:
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h, _ in cells], np.float32).reshape(-1, 4)
    weights = np.array([weight for *_, weight in cells], np.float32)
    assert dbscan(boxes, weights, eps=eps, min_samples=least).tolist() == slow_dbscan(
        boxes, weights, eps, least
    )


def scene(count: int, objects: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes of cells that speak of some objects, and a few that speak of none."""
    rng = np.random.default_rng(seed)
    middle, size = rng.uniform(0, 600, (objects, 2)), rng.uniform(20, 200, (objects, 2))
    which = rng.integers(0, objects, count)
    middles = middle[which] + rng.normal(0, 0.05, (count, 2)) * size[which]
    sizes = size[which] * np.exp(rng.normal(0, 0.08, (count, 2)))
    sizes[rng.random(count) < 0.02] = 0  # boxes without an area, which overlap themselves alone
    boxes = np.concatenate([middles - sizes / 2, middles + sizes / 2], axis=1).astype(np.float32)
    return boxes, rng.uniform(0, 1, count).astype(np.float32)


@pytest.mark.parametrize(("objects", "eps"), [(2, 0.2), (30, 0.3), (3, 1.0)])
def test_hundreds_of_cells_are_clustered_as_the_slow_reference_does(objects: int, eps: float) -> None:
    boxes, weights = scene(180, objects, objects)
    assert dbscan(boxes, weights, eps=eps, min_samples=1.5).tolist() == slow_dbscan(boxes, weights, eps, 1.5)


Object = tuple[float, list[float]]


def slow_nms(cells: list[tuple[float, list[float]]], least: float, limit: float) -> list[Object]:
    def iou(a: list[float], b: list[float]) -> float:
        w = min(a[2], b[2]) - max(a[0], b[0]) + 1
        h = min(a[3], b[3]) - max(a[1], b[1]) + 1
        shared = max(w, 0.0) * max(h, 0.0)
        return shared / (
            (a[2] - a[0] + 1) * (a[3] - a[1] + 1) + (b[2] - b[0] + 1) * (b[3] - b[1] + 1) - shared
        )

    kept: list[Object] = []
    for score, box in sorted(cells, key=lambda cell: -cell[0]):
        if score > least and all(iou(box, other) <= limit for _, other in kept):
            kept.append((score, box))
    return kept


def slow_cluster(
    coverage: np.ndarray, boxes: np.ndarray, rules: ClusteringSettings, mean: bool, at_threshold: bool
) -> list[Object]:
    """Section 5.6, cell by cell."""
    cells = [
        (float(share), [float(side) for side in box])
        for share, box in zip(coverage.ravel(), boxes.reshape(-1, 4), strict=True)
        if share > np.float32(rules.coverage_threshold)
    ]
    least = 0.1 if rules.nms_confidence_threshold is None else rules.nms_confidence_threshold
    limit = 0.3 if rules.nms_iou_threshold is None else rules.nms_iou_threshold
    objects: list[Object] = []
    if rules.algorithm == "NMS":
        objects = slow_nms(cells, least, limit)
    elif cells:
        labels = slow_dbscan(
            np.array([box for _, box in cells], np.float32),
            np.array([share for share, _ in cells], np.float32),
            rules.dbscan_eps,
            max(int(rules.dbscan_min_samples), 1),
        )
        for index in range(max(labels) + 1):
            members = [cell for cell, label in zip(cells, labels, strict=True) if label == index]
            if rules.algorithm == "HYBRID":
                objects += slow_nms(members, least, limit)
                continue
            total = sum(share for share, _ in members)
            box = [sum(share * sides[k] for share, sides in members) / total for k in range(4)]
            score = total / len(members) if mean else total
            threshold = rules.dbscan_confidence_threshold
            if score > threshold + 1e-5 or (at_threshold and abs(score - threshold) < 1e-5):
                objects.append((score, box))
    return sorted(
        (one for one in objects if one[1][3] - one[1][1] > rules.minimum_bounding_box_height),
        key=lambda one: -one[0],
    )


@settings(max_examples=120, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 10),
            st.integers(0, 10),
            st.integers(2, 9),
            st.integers(2, 9),
            st.sampled_from([0.05, 0.125, 0.25, 0.5, 1.0]),
        ),
        min_size=1,
        max_size=12,
        unique_by=lambda cell: cell[:4],
    ),
    st.sampled_from(["DBSCAN", "NMS", "HYBRID"]),
    st.sampled_from([0.15, 0.45]),
    st.sampled_from([0.0, 0.5, 1.25]),
    st.sampled_from([(None, None), (0.5, 0.2), (0.0, 0.0)]),
    st.booleans(),
    st.booleans(),
)
def test_objects_are_those_of_the_slow_reference(
    cells: list[tuple[int, int, int, int, float]],
    algorithm: Clustering,
    eps: float,
    confidence: float,
    nms: tuple[float | None, float | None],
    mean: bool,
    at_threshold: bool,
) -> None:
    # The cell's place in the list makes its coverage its own, so that no order is left to chance.
    coverage = np.array([[share + i / 4096 for i, (*_, share) in enumerate(cells)]], np.float32)
    boxes = np.array([[(x, y, x + w, y + h) for x, y, w, h, _ in cells]], np.float32)
    rules = config(algorithm, coverage=0.06, height=2, eps=eps, confidence=confidence, iou=nms[0], nms=nms[1])
    found = cluster(
        coverage, boxes, rules, confidence="mean_cov" if mean else "aggregate_cov", at_threshold=at_threshold
    )
    wanted = slow_cluster(coverage, boxes, rules, mean, at_threshold)
    assert found.confidence.tolist() == [pytest.approx(score, rel=1e-5) for score, _ in wanted]
    assert found.boxes.tolist() == [pytest.approx(box, abs=1e-3) for _, box in wanted]


@pytest.mark.parametrize(("at_threshold", "count"), [(True, 1), (False, 0)])
def test_a_confidence_of_just_the_threshold_is_enough_or_is_not(at_threshold: bool, count: int) -> None:
    found = cluster(*grid((0.75, A), (0.75, A)), config(confidence=1.5), at_threshold=at_threshold)
    assert len(found.boxes) == count

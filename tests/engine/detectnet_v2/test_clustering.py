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

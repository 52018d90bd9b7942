"""DetectNet_v2's clustering of 1,000 candidate cells, beside what else could do it.

    python benchmarks/clustering.py [--cells 1000] [--repeats 60]

The cells speak of 3 to 100 objects on a picture of 1248 × 384, with the scatter of a trained network's boxes. Peers:

- scikit-learn's DBSCAN on a matrix of distances that NumPy makes: what NVIDIA's code does. Not a dependency of
  taomagic: ``pip install scikit-learn`` beside it, or the peer is left out.
- the same loop over boxes without it: a breadth-first search from each cell, one row of distances at a time.

Every peer's clusters are compared with ours before anything is timed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from taomagic.engine.detectnet_v2.clustering import NOISE, cluster, dbscan
from taomagic.spec.settings_detectnet_v2 import ClusteringSettings

EPS, LEAST = 0.2, 1.0
Boxes = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def scene(count: int, objects: int, seed: int = 0) -> tuple[Boxes, Boxes]:
    """Return boxes and coverage of cells that speak of some objects."""
    rng = np.random.default_rng(seed)
    middle = np.stack([rng.uniform(0, 1248, objects), rng.uniform(100, 384, objects)], axis=1)
    size = np.stack([rng.uniform(20, 200, objects), rng.uniform(20, 120, objects)], axis=1)
    which = rng.integers(0, objects, count)
    middles = middle[which] + rng.normal(0, 0.03, (count, 2)) * size[which]
    sizes = size[which] * np.exp(rng.normal(0, 0.06, (count, 2)))
    boxes = np.concatenate([middles - sizes / 2, middles + sizes / 2], axis=1)
    return boxes.astype(np.float32), rng.uniform(0, 1, count).astype(np.float32)


def distances(boxes: Boxes, others: Boxes) -> Boxes:
    """Return [n, m]: one minus the IoU."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    area, area_of_others = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, others))
    return np.asarray(1 - shared / (area[:, None] + area_of_others - shared), np.float32)


def with_search(boxes: Boxes, weights: Boxes) -> Labels:
    """Cluster by a search from each cell."""
    labels = np.full(len(boxes), NOISE, np.int64)
    seen = np.zeros(len(boxes), np.bool_)
    rows = [np.flatnonzero(distances(boxes[i : i + 1], boxes)[0] <= EPS) for i in range(len(boxes))]
    core = [weights[row].sum() >= LEAST for row in rows]
    count = 0
    for start in range(len(boxes)):
        if seen[start] or not core[start]:
            continue
        waiting = [start]
        seen[start] = True
        while waiting:
            here = waiting.pop()
            labels[here] = count
            if core[here]:
                new = rows[here][~seen[rows[here]]]
                seen[new] = True
                waiting += new.tolist()
        count += 1
    return labels


def with_scikit_learn() -> Callable[[Boxes, Boxes], Labels] | None:
    """Return the peer, where it is installed."""
    try:
        from sklearn.cluster import DBSCAN
    except ImportError:
        return None

    def run(boxes: Boxes, weights: Boxes) -> Labels:
        found = DBSCAN(eps=EPS, min_samples=int(LEAST), metric="precomputed")
        return np.asarray(found.fit_predict(distances(boxes, boxes), sample_weight=weights), np.int64)

    return run


def groups(labels: Labels) -> set[frozenset[int]]:
    """Return the clusters as sets, whatever their numbers."""
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist()) - {NOISE}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=60)
    given = parser.parse_args()
    calls: dict[str, Callable[[Boxes, Boxes], Labels]] = {
        "taomagic": lambda boxes, weights: dbscan(boxes, weights, eps=EPS, min_samples=LEAST)
    }
    peer = with_scikit_learn()
    if peer is not None:
        calls["scikit-learn"] = peer
    calls["plain search"] = with_search
    print(f"{given.cells} cells, NumPy {np.__version__}; median of {given.repeats}, in ms")
    print(
        f"{'objects':>8}{'clusters':>10}"
        + "".join(f"{name:>16}" for name in calls)
        + f"{'maps to boxes':>15}"
    )
    for objects in (3, 10, 30, 100):
        boxes, weights = scene(given.cells, objects)
        ours = dbscan(boxes, weights, eps=EPS, min_samples=LEAST)
        times: dict[str, list[float]] = {name: [] for name in calls}
        for name, call in calls.items():
            assert groups(call(boxes, weights)) == groups(ours), f"{name} finds other clusters"
        for turn in range(given.repeats):
            for name, call in calls.items():
                if name == "plain search" and turn >= 5:
                    continue
                start = time.perf_counter()
                call(boxes, weights)
                times[name].append(1000 * (time.perf_counter() - start))
        medians = {name: statistics.median(values) for name, values in times.items()}
        cells = "".join(
            f"{medians[name]:>9.2f} ({medians[name] / medians['taomagic']:3.0f}×)" for name in calls
        )
        whole = statistics.median(whole_ms(boxes, weights) for _ in range(given.repeats))
        print(f"{objects:>8}{int(ours.max()) + 1:>10}{cells}{whole:>15.2f}")


def whole_ms(boxes: Boxes, weights: Boxes) -> float:
    """Return the milliseconds from maps to objects."""
    rules = ClusteringSettings("DBSCAN", 0.0, 4, EPS, LEAST, 0.9, None, None)
    start = time.perf_counter()
    cluster(weights[None], boxes[None], rules)
    return 1000 * (time.perf_counter() - start)


if __name__ == "__main__":
    main()

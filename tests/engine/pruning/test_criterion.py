from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from taomagic.engine.pruning.criterion import combine, filter_norms, kept_filters, normalize


def keep(statistics, threshold=0.1, granularity=8, min_filters=16) -> list[int]:
    kept = kept_filters(
        np.array(statistics, float), threshold=threshold, granularity=granularity, min_filters=min_filters
    )
    return kept.tolist()


def test_norms_take_the_whole_kernel_of_a_filter():
    weight = torch.zeros(2, 3, 2, 2)
    weight[0, :, 0, 0] = torch.tensor([1.0, 2.0, 2.0])
    weight[1] = 0.5
    assert filter_norms(weight).tolist() == [3.0, pytest.approx(0.5 * 12**0.5)]


def test_max_divides_by_the_strongest_filter():
    assert normalize(np.array([3.0, 4.0]), "max").tolist() == [0.75, 1.0]


def test_l2_divides_by_the_norm_and_multiplies_by_the_number_of_filters():
    # (3, 4) has the norm 5: 3 / 5 · 2 and 4 / 5 · 2.
    assert normalize(np.array([3.0, 4.0]), "L2").tolist() == pytest.approx([1.2, 1.6])


@pytest.mark.parametrize("normalizer", ["max", "L2"])
def test_a_dead_layer_has_zeros_not_nans(normalizer):
    assert normalize(np.zeros(4), normalizer).tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("equalization", "expected"),
    [
        ("union", [0.9, 0.4]),
        ("intersection", [0.1, 0.2]),
        ("arithmetic_mean", [0.5, 0.3]),
        ("geometric_mean", [0.3, 0.08**0.5]),
    ],
)
def test_layers_agree_as_asked(equalization, expected):
    statistics = [np.array([0.9, 0.2]), np.array([0.1, 0.4])]
    assert combine(statistics, equalization).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("above", "depth", "granularity", "min_filters", "expected"),
    [
        (20, 64, 8, 16, 24),  # rounded up to a multiple of 8
        (24, 64, 8, 16, 24),  # already one
        (3, 64, 8, 16, 16),  # never under the minimum
        (3, 12, 8, 16, 12),  # a layer smaller than the minimum stays whole
        (10, 12, 8, 4, 12),  # 10 -> 16, but there are only 12
        (3, 64, 8, 10, 16),  # the minimum itself is rounded up: 10 -> 16
        (5, 64, 1, 1, 5),
        (0, 64, 4, 1, 4),
        (64, 64, 8, 16, 64),
    ],
)
def test_hand_worked_counts(above, depth, granularity, min_filters, expected):
    statistics = [1.0] * above + [0.05] * (depth - above)
    assert len(keep(statistics, 0.1, granularity, min_filters)) == expected


def test_the_threshold_itself_is_not_enough():
    assert keep([0.1, 0.2, 0.1], 0.1, 1, 1) == [1]


def test_the_strongest_stay_in_their_own_order():
    assert keep([0.3, 0.9, 0.05, 0.7], 0.5, 1, 3) == [0, 1, 3]
    assert keep([0.0, 0.0, 0.0, 0.0], 0.5, 2, 1) == [0, 1]


@given(
    statistics=st.lists(st.floats(0, 1), min_size=1, max_size=100),
    threshold=st.floats(0, 1.5),
    granularity=st.integers(1, 32),
    min_filters=st.integers(1, 32),
)
def test_the_count_follows_the_rule_for_any_layer(statistics, threshold, granularity, min_filters):
    kept = keep(statistics, threshold, granularity, min_filters)
    depth = len(statistics)
    assert kept == sorted(set(kept))
    assert len(kept) == depth or len(kept) % granularity == 0
    assert len(kept) >= min(min_filters, depth)
    dropped = [statistics[i] for i in range(depth) if i not in kept]
    assert all(value <= threshold for value in dropped)
    assert not dropped or max(dropped) <= min(statistics[i] for i in kept)

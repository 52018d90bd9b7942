"""The sample of box sizes: even, bounded, the same every time."""

from __future__ import annotations

from itertools import pairwise

from taomagic.engine.data.box_sizes import LIMIT, BoxSizes


def sizes_of(counts: dict[str, int]) -> dict[str, list[tuple[float, float]]]:
    sizes = BoxSizes(len(counts))
    for name, count in counts.items():
        for number in range(count):
            sizes.add(name, number, 2 * number)
    return sizes.sample()


def test_a_small_data_set_is_kept_whole() -> None:
    assert sizes_of({"car": 3}) == {"car": [(0, 0), (1, 2), (2, 4)]}


def test_a_large_one_is_thinned_evenly_from_its_beginning_to_its_end() -> None:
    kept = [width for width, _ in sizes_of({"car": 100_003})["car"]]
    steps = {b - a for a, b in pairwise(kept)}
    assert len(steps) == 1
    assert LIMIT / 2 <= len(kept) <= LIMIT
    assert kept[-1] > 99_000


def test_classes_share_the_room_and_a_rare_one_loses_nothing() -> None:
    sample = sizes_of({"car": 5000, "person": 7, "bicycle": 5000})
    assert len(sample["person"]) == 7
    assert sum(map(len, sample.values())) <= LIMIT


def test_sizes_are_rounded_to_tenths_of_a_pixel() -> None:
    sizes = BoxSizes(1)
    sizes.add("car", 10.04999, 3.25001)
    assert sizes.sample() == {"car": [(10.0, 3.3)]}

"""Every drawing by itself: small, well formed, inside its frame, readable without colour."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taomagic.view.draw_bars import MAX_ROWS, kept_bars, object_bars, precision_bars
from taomagic.view.draw_boxes import box_sizes
from taomagic.view.draw_curves import precision_recall
from taomagic.view.draw_svg import COLOURS, DASHES, MARKS, evenly, fit, text_width, up_to
from taomagic.view.draw_types import Drawing

MAX_BYTES = 8000
SVG = "{http://www.w3.org/2000/svg}"
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)
SHARES = st.floats(0, 1)


def read(drawing: Drawing) -> ET.Element:
    """Check what holds for every drawing, and return it parsed."""
    assert len(drawing.svg.encode()) <= MAX_BYTES
    root = ET.fromstring(drawing.svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert width == 400
    assert root.attrib["viewBox"] == f"0 0 {width:g} {height:g}"
    assert root.findtext(f"{SVG}title")
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg",
        "title",
        "text",
        "rect",
        "path",
    }
    assert not re.search(r"\bon\w+=|href|url\(|<style|var\(", drawing.svg)
    for element in root.iter():
        for name, limit in (("x", width), ("y", height)):
            if name in element.attrib:
                assert 0 <= float(element.attrib[name]) <= limit
        if element.tag == f"{SVG}rect":
            assert float(element.attrib["x"]) + float(element.attrib["width"]) <= width
        for x, y in re.findall(r"M([\d.-]+) ([\d.-]+)", element.attrib.get("d", "")):
            assert -3 <= float(x) <= width
            assert -3 <= float(y) <= height
    return root


def words(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def bar_widths(root: ET.Element) -> list[float]:
    return [float(e.attrib["width"]) for e in root.iter(f"{SVG}rect") if e.attrib["fill"] != "none"]


def test_average_precisions_are_bars_with_their_numbers_and_the_mean_is_a_line() -> None:
    drawing = precision_bars({"car": 0.9, "person": 0.45}, 0.675)
    assert drawing is not None
    root = read(drawing)
    assert {"car", "0.9000", "person", "0.4500", "mAP 0.6750"} <= set(words(root))
    assert bar_widths(root)[0] == pytest.approx(2 * bar_widths(root)[1], abs=0.2)
    assert drawing.alt == "Average precision by class: car 0.9000, person 0.4500; mean 0.6750"


def test_of_many_classes_the_best_and_the_worst_are_drawn_and_the_others_counted() -> None:
    drawing = precision_bars({f"class {i}": i / 80 for i in range(80)}, 0.5)
    assert drawing is not None
    said = words(read(drawing))
    assert {"class 79", "class 0"} <= set(said)
    assert "class 40" not in said
    assert f"… {80 - MAX_ROWS + 1} classes between" in said
    assert "from 0.0000 (class 0) to 0.9875 (class 79)" in drawing.alt


def test_nothing_measured_gives_no_drawing() -> None:
    assert precision_bars({}, 0.5) is None
    assert precision_bars({"car": math.nan}, math.nan) is None
    assert object_bars({}) is None
    assert object_bars({"car": 0}) is None
    assert kept_bars({}, {"conv1": 8}, 0.5) is None
    assert kept_bars({"conv1": 9}, {"conv1": 8}, 0.5) is None
    assert precision_recall({"car": []}, {"car": 0.0}) is None
    assert box_sizes({"car": []}, {"car": 3}) is None


@settings(max_examples=25)
@given(st.dictionaries(NAMES, SHARES, min_size=1, max_size=100), SHARES | st.none())
def test_any_names_and_values_give_small_bars_inside_their_frame(
    by_class: dict[str, float], mean: float | None
) -> None:
    drawing = precision_bars(by_class, mean)
    assert drawing is not None
    read(drawing)


@settings(max_examples=25)
@given(st.dictionaries(NAMES, st.integers(0, 10**9), min_size=1, max_size=100))
def test_any_counts_give_small_bars_inside_their_frame(counts: dict[str, int]) -> None:
    drawing = object_bars(counts)
    assert (drawing is None) == (sum(counts.values()) == 0)
    if drawing is not None:
        read(drawing)


def test_objects_are_sorted_by_number_and_carry_their_share() -> None:
    drawing = object_bars({"person": 250, "car": 750})
    assert drawing is not None
    said = words(read(drawing))
    assert said.index("750 · 75%") < said.index("250 · 25%")
    assert drawing.alt == "Objects by class: car 750, person 250; 1,000 in all"


RESNET = {
    "conv1": (64, 64),
    **{f"block_{i}{j}_conv_{k}": (24 * i, 64 * i) for i in range(1, 5) for j in "ab" for k in (1, 2)},
    **{f"ssd_expand_block_{i}_conv_{k}": (128, 128) for i in range(5) for k in (0, 1)},
    **{f"ssd_{kind}_{i}": (24, 24) for kind in ("conf", "loc") for i in range(6)},
}


def kept_of(layers: Mapping[str, tuple[int, int]], ratio: float | None = 0.4) -> Drawing:
    kept, before = ({name: float(pair[i]) for name, pair in layers.items()} for i in (0, 1))
    drawing = kept_bars(kept, before, ratio)
    assert drawing is not None
    return drawing


def test_each_layer_of_a_small_network_is_a_bar() -> None:
    drawing = kept_of({"conv1": (8, 16), "conv2": (16, 16)})
    said = words(read(drawing))
    assert {"conv1", "8 of 16", "conv2", "16 of 16", "all layers", "24 of 32"} <= set(said)
    assert drawing.alt == "Filters kept: 24 of 32; the smallest share in conv1: 8 of 16; parameters kept: 40%"


def test_layers_of_a_large_network_are_grouped_whole_ones_first() -> None:
    root = read(kept_of(RESNET))
    said = words(root)
    # What was cut is told in more detail than what was left alone, and no filter is lost on the way.
    assert {"conv1", "block_1a ×2", "block_4b ×2", "ssd_expand_block ×10", "ssd_conf ×6"} <= set(said)
    counts = [re.fullmatch(r"([\d,]+) of ([\d,]+)", each) for each in said]
    before = [int(match[2].replace(",", "")) for match in counts if match]
    assert before[0] == sum(before[1:]) == sum(pair[1] for pair in RESNET.values())


@settings(max_examples=25)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,9}(_?\d{1,2}[a-d]?){0,3}(_conv_\d)?", fullmatch=True) | NAMES,
        st.integers(1, 512).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
        min_size=1,
        max_size=150,
    )
)
def test_any_layers_give_small_bars_inside_their_frame(layers: dict[str, tuple[int, int]]) -> None:
    read(kept_of(layers, None))


CURVES = {"car": [(0.25, 1.0), (0.75, 0.9), (0.9, 0.3)], "person": [(0.2, 0.5), (0.4, 0.2)]}


def test_a_curve_for_each_class_with_its_own_dash_and_sign() -> None:
    drawing = precision_recall(CURVES, {"car": 0.8, "person": 0.2})
    assert drawing is not None
    root = read(drawing)
    assert {"recall", "precision", "car", "AP 0.8000", "person", "AP 0.2000"} <= set(words(root))
    dashes = {
        e.attrib.get("stroke-dasharray") for e in root.iter(f"{SVG}path") if e.attrib.get("stroke") in COLOURS
    }
    assert {None, DASHES[1]} <= dashes
    assert drawing.alt == "Precision at recall 0.5: car 0.90, person does not reach it"


def test_a_curve_begins_at_recall_zero_and_ends_where_its_points_end() -> None:
    drawing = precision_recall({"car": [(0.5, 1.0), (1.0, 0.5)]}, {"car": 0.75})
    assert drawing is not None
    curve = next(
        e.attrib["d"] for e in read(drawing).iter(f"{SVG}path") if e.attrib.get("stroke-width") == "1.7"
    )
    start, steps = re.fullmatch(r"M([\d. ]+)l(.*)", curve).groups()  # type: ignore[union-attr]
    x, y = map(float, start.split())
    assert (x, y) == (46, 8)
    for step in steps.split():
        dx, dy = map(float, step.split(","))
        x, y = x + dx, y + dy
    assert [x, y] == pytest.approx([252, 94])


def test_of_many_curves_the_best_and_the_worst_are_drawn() -> None:
    curves = {f"class {i}": [(j / 100, 1 - j / 200) for j in range(1, 101)] for i in range(20)}
    drawing = precision_recall(curves, {f"class {i}": i / 20 for i in range(20)})
    assert drawing is not None
    said = words(read(drawing))
    assert [name for name in said if name.startswith("class ")] == [
        f"class {i}" for i in (19, 18, 17, 2, 1, 0)
    ]
    assert "best and worst 3 of 20 classes" in drawing.alt


@settings(max_examples=25)
@given(
    st.dictionaries(NAMES, st.lists(st.tuples(SHARES, SHARES), max_size=120), min_size=1, max_size=12),
)
def test_any_curves_stay_small_and_inside_their_frame(curves: dict[str, list[tuple[float, float]]]) -> None:
    drawing = precision_recall(curves, dict.fromkeys(curves, 0.5))
    assert (drawing is None) == (not any(curves.values()))
    if drawing is not None:
        read(drawing)


def test_boxes_are_signs_and_the_whole_is_told() -> None:
    drawing = box_sizes(
        {"car": [(100, 50), (120, 60), (80, 40)], "person": [(20, 60)]}, {"car": 3, "person": 1}
    )
    assert drawing is not None
    root = read(drawing)
    assert {"car", "median 100 × 50", "person", "median 20 × 60", "all 4 boxes"} <= set(words(root))
    assert "width in pixels" in words(root)


def test_a_large_data_set_is_thinned_and_says_so() -> None:
    sizes = {f"class {i}": [(float(j), float(j % 90)) for j in range(200)] for i in range(9)}
    drawing = box_sizes(sizes, dict.fromkeys(sizes, 40_000))
    assert drawing is not None
    assert "240 of 360,000 boxes" in words(read(drawing))


@settings(max_examples=25)
@given(
    st.dictionaries(
        NAMES,
        st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1e5)), max_size=300),
        min_size=1,
        max_size=12,
    )
)
def test_any_boxes_stay_small_and_inside_their_frame(sizes: dict[str, list[tuple[float, float]]]) -> None:
    drawing = box_sizes(sizes, {name: len(points) for name, points in sizes.items()})
    assert (drawing is None) == (not any(sizes.values()))
    if drawing is not None:
        read(drawing)


def test_no_two_series_share_dash_or_sign() -> None:
    assert len(set(DASHES)) == len(set(MARKS)) == len(set(COLOURS)) == len(DASHES)


@settings(max_examples=25)
@given(NAMES, st.floats(20, 200))
def test_a_shortened_name_fits_and_keeps_both_ends(name: str, units: float) -> None:
    short = fit(name, units)
    assert text_width(short) <= units
    head, gap, tail = short.partition("…")
    if gap and "…" not in name:
        assert fit(name, 1e9).startswith(head)
        assert fit(name, 1e9).endswith(tail)


@pytest.mark.parametrize(("value", "end"), [(0, 1), (1, 1), (783, 800), (1001, 1500), (0.3, 0.3), (7, 8)])
def test_axes_end_at_the_next_round_number(value: float, end: float) -> None:
    assert up_to(value) == pytest.approx(end)


def test_an_even_choice_has_both_ends() -> None:
    assert evenly(range(10), 4) == [0, 3, 6, 9]
    assert evenly(range(3), 4) == [0, 1, 2]
    assert evenly(range(3), 1) == [0]

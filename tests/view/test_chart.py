from __future__ import annotations

import math
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taomagic.view.chart import MAX_POINTS, as_image, best_point, chart_svg, describe, nice_ticks, thin

NUMBERS = st.floats(-1e12, 1e12)
POINTS = st.lists(
    st.tuples(st.floats(0, 1e6), st.one_of(NUMBERS, st.just(math.nan), st.just(math.inf))), max_size=60
)


def test_best_is_the_lowest_loss_and_the_highest_precision() -> None:
    points = [(1.0, 3.0), (2.0, 1.0), (3.0, 2.0)]
    loss, precision = best_point("validation_loss", points), best_point("mAP", points)
    assert loss is not None
    assert precision is not None
    assert (loss.x, loss.y, loss.kind) == (2.0, 1.0, "lowest")
    assert (precision.x, precision.y, precision.kind) == (1.0, 3.0, "highest")


@pytest.mark.parametrize(("x", "epoch"), [(0.04, 1), (1.0, 1), (2.25, 3), (3.0, 3), (0.0, 1)])
def test_a_point_inside_an_epoch_belongs_to_the_epoch_that_runs(x: float, epoch: int) -> None:
    best = best_point("loss", [(x, 1.0)])
    assert best is not None
    assert best.epoch == epoch


def test_thinning_keeps_both_ends_and_every_spike() -> None:
    points = [(float(i), 1.0) for i in range(20_000)]
    points[7777] = (7777.0, 99.0)
    points[13] = (13.0, -5.0)
    kept = thin(points)
    assert len(kept) <= MAX_POINTS
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert {(7777.0, 99.0), (13.0, -5.0)} <= set(kept)
    assert kept == sorted(kept)


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9))
def test_ticks_lie_inside_and_rise(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    assert 1 <= len(ticks) <= 12 or not ticks
    assert ticks == sorted(ticks)


@given(st.dictionaries(st.text(max_size=12), POINTS, max_size=7), st.booleans())
def test_every_chart_is_well_formed_xml_inside_its_frame(
    series: dict[str, list[tuple[float, float]]], live: bool
) -> None:
    svg = chart_svg(series, title="Loss", live=live)
    if not svg:
        assert not any(math.isfinite(y) for points in list(series.values())[:5] for _, y in points)
        return
    root = ET.fromstring(svg)
    for line in root.iter("{http://www.w3.org/2000/svg}polyline"):
        for pair in line.attrib["points"].split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= 400
            assert 0 <= y <= 190


def test_the_best_value_is_marked_and_written() -> None:
    svg = chart_svg({"mAP": [(1.0, 0.2), (2.0, 0.9123), (3.0, 0.7)]}, title="Precision")
    assert "<circle" in svg
    assert ">0.9123<" in svg


def test_an_image_carries_the_same_svg_and_an_alternative_text() -> None:
    svg = chart_svg({"loss": [(1.0, 2.0), (2.0, 1.0)]}, title="Loss")
    html = as_image(svg, describe("Loss", {"loss": [(1.0, 2.0), (2.0, 1.0)]}))
    source = html.partition('src="data:image/svg+xml;charset=utf-8,')[2].partition('"')[0]
    assert unquote(source) == svg
    assert 'alt="Loss: loss lowest 1.0000 in epoch 2"' in html
    assert "var(" not in svg, "an image doesn't see the variables of the page"


def test_nothing_to_draw_gives_nothing() -> None:
    assert chart_svg({}, title="Loss") == ""
    assert chart_svg({"loss": [(1.0, math.nan)]}, title="Loss") == ""
    assert as_image("", "x") == ""

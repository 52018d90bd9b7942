"""What `tao deploy NET compare` measured, in the card of the job: the table, the words, the limit of its size."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from taomagic.launcher.job import Job
from taomagic.view import panel_state, static
from taomagic.view.closing import closing
from taomagic.view.figures import figures_of

Make = Callable[..., Job]

COMMAND = "deploy ssd compare -m a/model.tlt int8.engine -e spec.txt -r /workspace/tao-experiments/compared"
LOG = "Saved: /workspace/tao-experiments/compared/comparison.png\nExecution status: PASS\n"
CONTENT: dict[str, Any] = {
    "reference": "model.tlt",
    "recommended": "int8.engine",
    "models": [
        {
            "name": "model.tlt",
            "file": "a/model.tlt",
            "kind": "TAO model",
            "place": "CPU, 2 threads",
            "mAP": 0.84314,
            "AP": {"car": 0.95, "<b>van</b>": 0.71},
            "size_mb": 46.1,
            "latency_ms": {"median": 41.2, "p95": 52.0},
            "images_per_second": {"1": 24.3, "4": 30.1},
            "changed_boxes": 0,
        },
        {
            "name": "int8.engine",
            "file": "int8.engine",
            "kind": "INT8 engine",
            "place": "CPU, ONNX Runtime",
            "mAP": 0.84286,
            "AP": {"car": 0.94, "<b>van</b>": 0.72},
            "size_mb": 11.9,
            "latency_ms": {"median": 14.3, "p95": 16.0},
            "images_per_second": {"1": 69.9, "4": 71.0},
            "changed_boxes": 3,
        },
    ],
    "words": ["Recommended: int8.engine, 2.9 × as fast as model.tlt."],
    "first_image_share": 0.5,
}


@pytest.fixture
def compared(job: Make, project: Path) -> Callable[..., Job]:
    def make(content: Any = CONTENT, words: str = COMMAND) -> Job:
        done = job(words, LOG)
        record = {"status": "SUCCESS", "message": "…", "graphical": {"comparison": content}}
        (project / "compared").mkdir(exist_ok=True)
        (project / "compared" / "status.json").write_text(json.dumps(record) + "\n")
        return done

    return make


def test_each_row_has_its_best_marked(compared: Callable[..., Job]) -> None:
    done = compared()
    (figures,) = figures_of(done, done.result())
    assert figures.names == ("model.tlt", "int8.engine")
    rows = {name: (values, best) for name, values, best in figures.rows}
    assert rows[""] == (("", "recommended"), frozenset())
    assert rows["mAP"] == (("0.843", "0.843"), frozenset()), "they look alike, so none is better"
    assert rows["AP car"] == (("0.950", "0.940"), frozenset({0}))
    assert rows["AP <b>van</b>"][1] == {1}
    assert rows["size in MB"] == (("46.1", "11.9"), frozenset({1}))
    assert rows["latency in ms, median"] == (("41.2", "14.3"), frozenset({1}))
    assert rows["latency in ms, 95th percentile"][1] == {1}
    assert rows["images per second, 4 at once"] == (("30.1", "71.0"), frozenset({1}))
    assert rows["boxes unlike the first one's"] == (("–", "3"), frozenset())
    assert figures.notes == ("Recommended: int8.engine, 2.9 × as fast as model.tlt.",)


def test_the_card_says_it_as_a_table_and_as_text(compared: Callable[..., Job]) -> None:
    done = compared()
    bundle = closing(done, done.snapshot()).bundle
    html, text = bundle["text/html"], bundle["text/plain"]
    assert re.search(
        r"<th[^>]*>latency in ms, median</th><td>41.2</td><td><strong>★ 14.3</strong></td>", html
    )
    assert "<b>van" not in html
    assert "2.9 × as fast" in html
    assert re.search(r"size in MB +46.1 +★ 11.9\n", text)


def test_the_page_is_told_the_same(compared: Callable[..., Job]) -> None:
    done = compared()
    told = panel_state.figures(figures_of(done, done.result())[0])
    assert told["names"] == ["model.tlt", "int8.engine"]
    assert ["size in MB", [["46.1", False], ["★ 11.9", True]]] in told["rows"]
    json.dumps(told)


def test_many_models_of_many_classes_fit_on_a_card(compared: Callable[..., Job], project: Path) -> None:
    content = copy.deepcopy(CONTENT)
    model = content["models"][1]
    names = [f"engines/of/many/kinds/detector_resnet18_number_{index}.trt.int8" for index in range(12)]
    classes = {f"a class with a long name {index}": index / 80 for index in range(80)}
    content["models"] = [{**model, "name": name, "file": name, "AP": classes} for name in names]
    noise = np.random.default_rng(0).integers(0, 255, (900, 1448, 3), dtype=np.uint8)
    done = compared(
        content, f"deploy ssd compare -m {' '.join(names)} -e s -r /workspace/tao-experiments/compared"
    )
    Image.fromarray(noise).save(project / "compared" / "comparison.png")
    end = closing(done, done.snapshot())
    assert len(end.bundle["text/html"].encode()) <= static.MAX_HTML_BYTES
    assert "images per second" in end.bundle["text/plain"]


def test_the_first_image_of_the_picture_is_drawn_as_wide_as_the_card(
    compared: Callable[..., Job], project: Path
) -> None:
    done = compared()
    Image.new("RGB", (1200, 800), (40, 90, 140)).save(project / "compared" / "comparison.png")
    (drawing,) = closing(done, done.snapshot()).drawings
    assert re.search(r"viewBox='0 0 800 266.667'", drawing.svg), "the upper half of 800 × 533"


@pytest.mark.parametrize(
    "content",
    [
        None,
        {},
        {"models": "many"},
        {"models": [1, 2]},
        {"models": CONTENT["models"][:1]},
        {"models": [{**each, "file": "other.engine"} for each in CONTENT["models"]]},
    ],
)
def test_a_record_that_is_odd_or_anothers_is_left_out(compared: Callable[..., Job], content: Any) -> None:
    done = compared(content)
    assert figures_of(done, done.result()) == []


def test_figures_that_are_missing_leave_a_gap(compared: Callable[..., Job]) -> None:
    done = compared(
        {"models": [{"file": "a/model.tlt"}, {"file": "int8.engine", "mAP": 0.5, "AP": [1], "size_mb": "x"}]}
    )
    (figures,) = figures_of(done, done.result())
    rows = {name: (values, best) for name, values, best in figures.rows}
    assert rows["mAP"] == (("–", "0.500"), frozenset())
    assert rows["size in MB"] == (("–", "–"), frozenset())

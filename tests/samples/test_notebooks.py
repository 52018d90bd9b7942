"""The committed notebooks are what their sources say, and the pictures in them can be drawn."""

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from taomagic.errors import DataProblem
from taomagic.samples import gallery
from taomagic.samples.build import NETS, render

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("net", NETS)
def test_the_committed_notebook_is_current(net):
    committed = (ROOT / "notebooks" / net / f"{net}.ipynb").read_text(encoding="utf-8")
    assert committed == render(net), "run `make notebooks`"


def test_boxes_are_read_without_dont_care_regions_and_with_confidences(tmp_path):
    label = tmp_path / "a.txt"
    label.write_text(
        "Car 0 0 0 1 2 3 4 0 0 0 0 0 0 0 0.75\nDontCare -1 -1 -10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10\n"
    )
    assert gallery.read_boxes(label) == [gallery.Box("car", (1.0, 2.0, 3.0, 4.0), 0.75)]
    assert gallery.read_boxes(tmp_path / "missing.txt") == []


def test_the_comparison_shows_every_model_and_marks_what_is_unknown():
    results = {
        "unpruned": SimpleNamespace(
            metrics={"mAP": 0.8642, "parameters": 444640.0, "model_mb": 1.9, "ms_per_image": 3.14}
        ),
        "<pruned>": SimpleNamespace(metrics={"mAP": 0.1}),
    }
    table = gallery.Comparison(results)
    lines = str(table).splitlines()
    assert lines[0].split() == ["model", "mAP", "parameters", "file", "(MB)", "ms", "/", "image"]
    assert lines[2].split() == ["unpruned", "0.864", "444,640", "1.90", "3.1"]
    assert lines[3].split() == ["<pruned>", "0.100", "–", "–", "–"]
    assert "&lt;pruned&gt;" in table._repr_html_()


def test_a_comparison_is_read_from_the_file_of_the_command(tmp_path):
    model = {"mAP": 0.5, "parameters": None, "size_mb": 1.25, "latency_ms": {"median": 4.0, "p95": 9.0}}
    (tmp_path / "comparison.json").write_text(json.dumps({"models": [model, {**model, "parameters": 7}]}))
    lines = str(gallery.Comparison.from_file(tmp_path / "comparison.json", ["a", "b"])).splitlines()
    assert lines[2].split() == ["a", "0.500", "–", "1.25", "4.0"]
    assert lines[3].split() == ["b", "0.500", "7", "1.25", "4.0"]
    with pytest.raises(ValueError, match="zip"):
        gallery.Comparison.from_file(tmp_path / "comparison.json", ["a"])


def test_the_images_of_a_folder_are_drawn_in_a_grid(tmp_path):
    for name in ("b", "a", "c"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((20, 60, 3), np.uint8))
    axes = gallery.show_images(tmp_path, "[ac]*", count=3, columns=3).figure.axes
    assert [axis.get_title() for axis in axes] == ["a", "c", ""]
    assert [len(axis.images) for axis in axes] == [1, 1, 0]


def test_a_block_of_a_spec_is_shown_as_it_is_written(tmp_path):
    spec = tmp_path / "spec.txt"
    spec.write_text(
        "# of a test\nseed: 1\nfirst {\n  inner {\n    a: 1\n  }\n}\nfirst_of_all: {\n  b: 2 # so\n}\n"
    )
    assert gallery.spec_block(spec, "first") == "first {\n  inner {\n    a: 1\n  }\n}"
    assert gallery.spec_block(spec, "first_of_all") == "first_of_all: {\n  b: 2 # so\n}"
    with pytest.raises(DataProblem, match="no block inner") as caught:
        gallery.spec_block(spec, "inner")
    assert caught.value.hint == "the blocks are: first, first_of_all"


def test_training_curves_have_a_line_for_loss_and_one_for_map():
    run = SimpleNamespace(
        history=[{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 2.0, "mAP": 0.4, "validation_loss": 2.5}]
    )
    picture = gallery.plot_training({"first": run})
    assert picture._repr_png_().startswith(b"\x89PNG")
    loss_axis, score_axis = picture.figure.axes
    assert [line.get_label() for line in loss_axis.lines] == ["first: loss", "first: validation loss"]
    assert list(score_axis.lines[0].get_ydata()) == [0.4]


def test_the_demo_repeats_its_status_line_only_now_and_then_where_nothing_can_be_redrawn(capsys):
    from taomagic.samples.demo import _StatusLine

    status = _StatusLine()
    for step in range(50):
        status.show(f"▶ step {step}")
    assert capsys.readouterr().out == "      ▶ step 0\n"

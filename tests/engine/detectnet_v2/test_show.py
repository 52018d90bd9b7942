"""`detectnet_v2 show`: what is drawn, told by the pixels; and the command on a network that isn't trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from taomagic.engine.data.images import Image
from taomagic.engine.detectnet_v2 import map_pictures
from taomagic.engine.detectnet_v2.clustering import Detections
from taomagic.engine.detectnet_v2.map_pictures import MAX_CLASSES, PANEL, Shown, draw_coverage, draw_targets

from .conftest import ROOT
from .test_grid_commands import KEY, Place, place, prepared  # noqa: F401 - fixtures

HEIGHT, WIDTH = 64, 96
GREY = 128


def shown(classes: int = 2, *, objects: int = 1) -> Shown:
    """One car of 48 × 32 pixels in the middle of a grey image, its coverage in one cell."""
    targets = np.zeros((classes, HEIGHT // 16, WIDTH // 16), np.float32)
    targets[0, 2, 3] = 1.0
    return Shown(
        np.full((HEIGHT, WIDTH, 3), GREY, np.uint8),
        np.array([[24, 16, 72, 48]] * objects, np.float32).reshape(-1, 4),
        np.zeros(objects, np.int64),
        np.array([[48, 32, 20, 12, 30, 20]] * objects, np.float32).reshape(-1, 6),
        targets,
    )


def bright(picture: Image) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return picture.astype(int).max(axis=2) > 200


def test_a_cell_with_coverage_glows_and_the_others_stay_dark() -> None:
    picture = map_pictures._with_heat(shown().pixels, shown().targets[0])
    cell = PANEL * 16 // WIDTH
    inside = picture[2 * cell + 4 : 3 * cell - 4, 3 * cell + 4 : 4 * cell - 4]
    assert bright(inside).all()
    outside = bright(picture)
    outside[2 * cell - 2 : 3 * cell + 2, 3 * cell - 2 : 4 * cell + 2] = False
    assert not outside.any()


def test_the_ellipse_is_filled_and_the_dead_zone_lies_around_it() -> None:
    picture = map_pictures._with_ellipses(shown(), PANEL).astype(int)
    scale = PANEL / WIDTH
    across = picture[round(32 * scale)]  # through the middle
    tinted = np.abs(across - GREY).max(axis=1) > 20
    assert tinted[round(30 * scale) : round(66 * scale)].all()
    assert not tinted[: round(16 * scale)].any(), "left of the dead zone"
    white = (picture > 230).all(axis=2)
    rows, columns = np.nonzero(white)
    assert columns.min() == pytest.approx(18 * scale, abs=3), "the dead zone's radius is 30 pixels"
    assert rows.min() == pytest.approx(12 * scale, abs=3)


def test_sheets_show_each_class_and_of_many_those_that_are_there() -> None:
    names = ("car", "行人")
    two, one = draw_targets(shown(), names), draw_targets(shown(1), ("car",))
    assert two.shape == one.shape, "two columns"
    assert two.shape[1] > 2 * PANEL
    many = draw_targets(shown(20), [f"class{i}" for i in range(20)])
    assert draw_targets(shown(MAX_CLASSES), [f"c{i}" for i in range(MAX_CLASSES)]).shape == many.shape
    assert map_pictures._told(replace(shown(20), targets=shown(20).targets[::-1].copy()), 20)[-1] == 19
    assert draw_targets(shown(objects=0), names).shape == two.shape


def test_coverage_stands_beside_what_shall_be_learnt_however_odd_it_is() -> None:
    plain = shown()
    odd = np.full_like(plain.targets, np.nan)
    odd[0, 0, 0] = np.inf
    far = np.array([[-1e9, -1e9, 1e9, 1e9], [0, 0, 4, 4], [1, 1, 5, 5]], np.float32)
    found = {"car": Detections(far, np.array([0.5, 0.4, 0.3], np.float32))}
    for coverage in (plain.targets, odd):
        picture = draw_coverage(replace(plain, coverage=coverage, found=found), ("car", "van"))
        assert picture.dtype == np.uint8
        assert picture.shape[0] > 3 * PANEL * HEIGHT / WIDTH, "objects, and a row a class"


@pytest.mark.parametrize("training", [False, True])
def test_the_command_draws_what_is_learnt_and_what_has_been(place: Place, training: bool) -> None:  # noqa: F811
    more = ("--use_training_set",) if training else ()
    words = ("-e", f"{ROOT}/spec.txt", "-r", f"{ROOT}/shown", "-n", "2", *more)
    code, output = place.run("show", *words)
    assert code == 0, output
    names = ["targets_0.png"] if training else ["targets_1.png", "targets_3.png"]  # evenly chosen of five
    assert sorted(path.name for path in (place.folder / "shown" / "images").iterdir()) == names
    assert [line for line in output.splitlines() if line.startswith("Saved: ")] == [
        f"Saved: {ROOT}/shown/images/{name}" for name in names
    ]
    if training:
        return
    for model in ("model.tlt", "model.onnx"):
        code, output = place.run("show", *words, "-m", f"{ROOT}/{model}", "-k", KEY)
        assert code == 0, output
        assert f"Saved: {ROOT}/shown/images/coverage_1.png" in output
    assert cv2.imread(str(place.folder / "shown" / "images" / "coverage_1.png")).shape[2] == 3
    assert [record["status"] for record in place.status("shown/status.json")] == ["STARTED", "SUCCESS"] * 3


def test_a_model_of_other_classes_is_refused_before_anything_is_drawn(place: Place) -> None:  # noqa: F811
    spec = Path(place.folder / "spec.txt")
    spec.write_text(spec.read_text().replace("cyclist", "bike"))
    code, output = place.run(
        "show", "-e", f"{ROOT}/spec.txt", "-r", f"{ROOT}/shown", "-m", f"{ROOT}/model.tlt", "-k", KEY
    )
    assert code == 1
    assert "ERROR: " in output
    assert not (place.folder / "shown" / "images").exists()

"""What ``dataloader_mode`` and its like mean for the other fields: honoured, or noted, never ignored in silence."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from taomagic.errors import SpecProblem
from taomagic.spec.detectnet_v2 import read_experiment
from taomagic.spec.settings_detectnet_v2 import DetectNetAugmentationSettings, DetectNetExperiment

SPEC = Path(__file__).parents[2] / "specs" / "detectnet_v2" / "detectnet_v2_train_resnet18_kitti.txt"


def read(folder: Path, mode: str, preprocessing: str = "", spatial: str = "") -> DetectNetExperiment:
    text = SPEC.read_text(encoding="utf-8")
    for old, new in (
        ("dataset_config {", f"dataset_config {{\n{mode}"),
        ("preprocessing {", f"preprocessing {{\n{preprocessing}"),
        ("spatial_augmentation {", f"spatial_augmentation {{\n{spatial}"),
        ("    min_bbox_width: 1.0\n", ""),
        ("    min_bbox_height: 1.0\n", ""),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "spec.txt"
    path.write_text(text, encoding="utf-8")
    return read_experiment(path, purpose="train")


def augmentation(experiment: DetectNetExperiment) -> DetectNetAugmentationSettings:
    assert experiment.augmentation is not None
    return experiment.augmentation


BOXES = "min_bbox_width: 5 min_bbox_height: 4"
TURNS = "vflip_probability: 0.5 rotate_rad_max: 0.25"


@pytest.mark.parametrize("mode", ["", "dataloader_mode: MULTISOURCE", "dataloader_mode: LEGACY"])
def test_the_usual_loader_ignores_some_fields_and_says_so(tmp_path: Path, mode: str) -> None:
    experiment = read(tmp_path, mode, BOXES, TURNS)
    settings = augmentation(experiment)
    assert (settings.min_bbox_width, settings.min_bbox_height, settings.vflip_probability) == (1, 1, 0)
    assert settings.rotate_max == 0.25
    notes = "\n".join(experiment.notes)
    for name in (
        "min_bbox_width has no effect",
        "min_bbox_height has no effect",
        "vflip_probability has no effect",
    ):
        assert name in notes
    assert "rotate_rad_max is taken for degrees" in notes
    assert ("LEGACY loads as MULTISOURCE" in notes) == ("LEGACY" in mode)


def test_the_default_loader_honours_them(tmp_path: Path) -> None:
    experiment = read(tmp_path, "dataloader_mode: DEFAULT", BOXES, TURNS)
    settings = augmentation(experiment)
    assert (settings.min_bbox_width, settings.min_bbox_height, settings.vflip_probability) == (5, 4, 0.5)
    assert settings.rotate_max == pytest.approx(math.degrees(0.25))
    assert experiment.notes == ()


def test_a_sampling_mode_without_a_choice_is_noted(tmp_path: Path) -> None:
    assert any(
        "sampling_mode has no effect" in note for note in read(tmp_path, "sampling_mode: UNIFORM").notes
    )


@pytest.mark.parametrize(
    ("given", "absent"), [("scale_width", "scale_height"), ("scale_height", "scale_width")]
)
def test_one_side_of_the_scale_needs_the_other(tmp_path: Path, given: str, absent: str) -> None:
    with pytest.raises(SpecProblem, match=absent) as caught:
        read(tmp_path, "", f"{given}: 640")
    assert caught.value.hint
    settings = augmentation(read(tmp_path, "", "scale_width: 640 scale_height: 192"))
    assert (settings.scale_width, settings.scale_height) == (640, 192)

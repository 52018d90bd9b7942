from __future__ import annotations

from pathlib import Path

import pytest

from taomagic.errors import SpecProblem
from taomagic.spec.kinds import check_text

SPECS = Path(__file__).parents[2] / "specs"


@pytest.mark.parametrize("path", sorted(SPECS.rglob("*.txt")), ids=lambda path: path.name)
def test_every_spec_file_is_recognised_and_checked(path: Path) -> None:
    assert check_text(path.read_text(encoding="utf-8"), name=path.name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nms_config { top_k: 0 }", "top_k should be > 0"),
        ("trainin_config { }\nnms_config { top_k: 5 }", "unknown field 'trainin_config'"),
        ("bbox_rasterizer_config { deadzone_radius: 2 }", "deadzone_radius should be >= 0 and <= 1"),
        ("inferencer_config { image_channels: 2 }", "image_channels should be one of 1, 3"),
        ("kitti_config { val_split: 100 }", "val_split should be >= 0 and < 100"),
    ],
)
def test_a_mistake_in_the_file_of_any_network_is_found(text: str, message: str) -> None:
    with pytest.raises(SpecProblem, match=message):
        check_text(text, name="spec.txt")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "yolo_v4.txt",
            'random_seed: 42\nyolov4_config { big_anchor_shape: "[]" }\nnms_config { top_k: 200 }',
        ),
        ("retinanet.txt", 'retinanet_config { arch: "resnet" }\ntraining_config { num_epochs: 1 }'),
        (
            "unet.txt",
            'model_config { model_input_width: 320 }\ndataset_config { dataset: "custom" }\nunet_config { }',
        ),
        ("dino.yaml", "train:\n  num_epochs: 10\nmodel:\n  backbone: fan\n"),
    ],
)
def test_files_of_other_networks_are_left_alone(name: str, text: str) -> None:
    assert not check_text(text, name=name)

"""Pictures with boxes."""

import argparse

import numpy as np
import pytest

from taomagic.engine.ssd.inference import _outputs, draw
from taomagic.engine.ssd.postprocess import Detections
from taomagic.errors import UsageProblem
from taomagic.project.paths import PathMap


def test_endless_boxes_of_a_diverged_network_do_not_stop_the_drawing():
    boxes = np.array([[-np.inf, -1e30, np.inf, 1e30], [np.nan, 2, 5, 6]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([1, 1]))
    assert draw(np.full((20, 30, 3), 255, np.uint8), found, ("car",)).shape == (20, 30, 3)


@pytest.mark.parametrize("one_image", [False, True])
def test_annotated_images_never_replace_the_originals(tmp_path, one_image):
    (tmp_path / "a.png").touch()
    images = tmp_path / "a.png" if one_image else tmp_path
    args = argparse.Namespace(
        results_dir=None, image_output_dir=f"{tmp_path}/.", label_output_dir=None, image_dir=str(images)
    )
    with pytest.raises(UsageProblem, match="replace the originals"):
        _outputs(args, PathMap())

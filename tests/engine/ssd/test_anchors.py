"""Anchors against numbers worked out from the SSD document."""

import math

import pytest
import torch

from taomagic.engine.ssd.anchors import AnchorSettings, anchor_boxes
from taomagic.engine.ssd.model import SSD, Architecture

VARIANCES = (0.1, 0.1, 0.2, 0.2)
DOCUMENT_RATIOS = (
    (1.0, 2.0, 0.5),
    (1.0, 2.0, 0.5, 3.0, 1 / 3),
    (1.0, 2.0, 0.5, 3.0, 1 / 3),
    (1.0, 2.0, 0.5, 3.0, 1 / 3),
    (1.0, 2.0, 0.5),
    (1.0, 2.0, 0.5),
)
SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)


def settings(ratios, *, two=False, clip=False, steps=None, offsets=None):
    return AnchorSettings(ratios, SCALES, two, clip, VARIANCES, steps, offsets)


@pytest.mark.parametrize(
    ("nlayers", "ratios", "two", "anchors"),
    [(10, ((1.0, 2.0, 0.5),) * 6, False, 5829), (18, DOCUMENT_RATIOS, True, 8744)],
)
def test_a_300_pixel_network_has_the_documented_number_of_anchors(nlayers, ratios, two, anchors):
    architecture = Architecture("resnet", nlayers, 1.0, (3, 300, 300), ("car",), settings(ratios, two=two))
    model = SSD(architecture)
    assert len(model.anchors) == anchors
    assert [h for h, _ in model.feature_sizes] == [38, 19, 10, 5, 3, 2]


def test_maps_of_a_512_pixel_network_are_those_of_the_reference():
    model = SSD(Architecture("resnet", 18, 0.125, (3, 512, 512), ("car",), settings(DOCUMENT_RATIOS)))
    assert model.feature_sizes == [(n, n) for n in (64, 32, 16, 8, 4, 2)]


def test_anchors_of_one_cell_have_the_shapes_of_the_ratios_in_their_order():
    boxes = anchor_boxes(settings(((1.0, 4.0),) * 6, two=True), (100, 200), [(1, 1)])
    sizes = (boxes[:, 2:] - boxes[:, :2]) * torch.tensor([200.0, 100.0])
    between = math.sqrt(0.07 * 0.15) * 100
    expected = torch.tensor([[7.0, 7.0], [between, between], [14.0, 3.5]])
    assert torch.allclose(sizes, expected, atol=1e-4)


def test_centres_start_half_a_step_from_the_border_and_run_row_by_row():
    boxes = anchor_boxes(settings(((1.0,),) * 6), (60, 120), [(2, 3)])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 * torch.tensor([120.0, 60.0])
    expected = [[20.0, 15.0], [60.0, 15.0], [100.0, 15.0], [20.0, 45.0], [60.0, 45.0], [100.0, 45.0]]
    assert torch.allclose(centres, torch.tensor(expected), atol=1e-4)


def test_steps_and_offsets_of_the_spec_place_the_centres():
    explicit = settings(((1.0,),) * 6, steps=((10.0, 20.0),) * 6, offsets=(0.25,) * 6)
    boxes = anchor_boxes(explicit, (100, 100), [(1, 2)])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 * 100
    assert torch.allclose(centres, torch.tensor([[5.0, 2.5], [25.0, 2.5]]), atol=1e-4)


def test_clipping_keeps_corners_inside_the_last_pixel():
    boxes = anchor_boxes(settings(((1.0,),) * 6, clip=True, offsets=(0.01,) * 6), (100, 100), [(1, 1)])
    assert float(boxes.min()) == 0.0
    wide = AnchorSettings(
        ((1.0,),) * 6, (2.0,) * 7, two_boxes_for_ar1=False, clip_boxes=True, variances=VARIANCES
    )
    assert torch.allclose(anchor_boxes(wide, (100, 100), [(1, 1)]), torch.tensor([[0.0, 0.0, 0.99, 0.99]]))

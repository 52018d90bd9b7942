"""Processes that share a batch find the scales that one process with all of it finds."""

from __future__ import annotations

import pytest

from taomagic.engine.quantization import quantizers, share_scales
from taomagic.engine.training.batch_norm import share_batch_norm
from tests.engine.training.ranks import in_ranks

from .ssd_cases import images, network

#: The images of each process: in equal parts, and all with one of them.
DEALT = [[[0, 1], [2, 3]], [[0, 1, 2, 3], []]]


def scales_of(rank: int, dealt: list[list[list[int]]] | None) -> list[dict[str, float]]:
    """Make two steps' forward and backward passes with this rank's images, afresh each time; return the scales."""
    found = []
    for rows in [list(range(4))] if dealt is None else [shares[rank] for shares in dealt]:
        model = network().train()
        if dealt is not None:
            share_batch_norm(model)
            share_scales(model)
        for batch in (images(), images() * 1.5):
            scores, offsets = model(batch[rows])
            (scores.square().sum() + offsets.square().sum()).backward()
        found.append({name: quantizer.scale.item() for name, quantizer in quantizers(model).items()})
    return found


def test_two_processes_find_the_scales_of_one(tmp_path):
    (alone,) = scales_of(0, None)
    first, second = in_ranks(2, scales_of, tmp_path, DEALT)
    assert first == second
    for scales in first:
        assert scales == pytest.approx(alone, rel=1e-2)
        assert scales["Input_qdq"] == pytest.approx(alone["Input_qdq"], rel=1e-6)

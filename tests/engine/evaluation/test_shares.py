"""What several processes evaluated, put together again."""

from __future__ import annotations

import pytest

from taomagic.engine.training import distributed


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_a_list_that_was_dealt_out_comes_back_in_its_order(monkeypatch, count):
    whole = [f"batch {i}" if i else None for i in range(count)]  # None is a value like any other
    monkeypatch.setattr(distributed, "gathered", lambda mine: [whole[rank::3] for rank in range(3)])
    assert distributed.gathered_in_turn(whole[0::3]) == whole

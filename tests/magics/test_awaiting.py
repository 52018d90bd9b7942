"""Cells that await their command, in a kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from .test_notebook import PRUNE, run_all

TICKING = """\
import asyncio
ticks = 0
async def tick():
    global ticks
    while True:
        await asyncio.sleep(0.01)
        ticks += 1
ticking = asyncio.get_running_loop().create_task(tick())
"""
COUNT = "print('TICKS', ticks - before)"
RUN = PRUNE.format("noise-20000")


def ticks_of(notebook: object, cell: int) -> int:
    (output,) = [o for o in notebook.cells[cell].outputs if o.get("name") == "stdout"]  # type: ignore[attr-defined]
    return int(output.text.split()[-1])


@pytest.mark.parametrize(
    "cell",
    [
        f"before = ticks\nx = %tao {RUN}\nassert x.ok",
        f"before = ticks\nfor i in range(1):\n    %tao {RUN}",
    ],
)
def test_the_kernel_is_free_while_a_cell_waits(cell: str, project: Path) -> None:
    notebook = run_all(project, TICKING, cell, COUNT)
    assert ticks_of(notebook, 3) > 5


@pytest.mark.parametrize(
    "cell",
    [
        f"%%time\nbefore = ticks\n%tao {RUN}",
        f"def run():\n    x = %tao {RUN}\n    return x\nbefore = ticks\nassert run().ok",
    ],
)
def test_other_magics_and_functions_block_as_ever(cell: str, project: Path) -> None:
    notebook = run_all(project, TICKING, cell, COUNT)
    assert ticks_of(notebook, 3) <= 5
    assert not [o for o in notebook.cells[2].outputs if o.output_type == "error"]


def test_a_cell_that_awaits_fails_as_others_do(project: Path) -> None:
    notebook = run_all(project, f"%tao {PRUNE.format('fail-1')}", "print('never')")
    assert notebook.cells[1].outputs[-1].ename == "StageFailed"
    assert notebook.cells[2].outputs == []

"""Run All, headless: what a saved notebook holds."""

from __future__ import annotations

import contextlib
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from .conftest import FIRST_CELL

PRUNE = "ssd prune -m $USER_EXPERIMENT_DIR/{}.hdf5 -o $USER_EXPERIMENT_DIR/out.hdf5 -k $KEY"


def run_all(folder: Path, *cells: str) -> nbformat.NotebookNode:
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in (FIRST_CELL, *cells)]
    )
    client = NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    with contextlib.suppress(CellExecutionError):
        client.execute()
    return notebook


def size_bytes(notebook: nbformat.NotebookNode) -> int:
    return len(nbformat.writes(notebook).encode())


def test_a_notebook_holds_a_small_card_and_a_readable_text(project: Path) -> None:
    notebook = run_all(
        project, "%%tao ssd prune\n  -m $USER_EXPERIMENT_DIR/train-3.hdf5\n  -o $USER_EXPERIMENT_DIR/o.hdf5"
    )
    (card, value) = notebook.cells[1].outputs
    assert card.output_type == "display_data"
    assert value.data["text/plain"].startswith("<Result ssd prune: succeeded")
    assert card.data["text/plain"].count("\nEpoch ") == 3
    assert "data:image/svg+xml" in card.data["text/html"]
    assert "<script" not in card.data["text/html"]
    assert "secret-key" not in nbformat.writes(notebook).replace("--key secret-key", "")
    assert nbformat.validate(notebook) is None


def test_run_all_ends_at_a_failed_stage(project: Path) -> None:
    notebook = run_all(project, f"%tao {PRUNE.format('fail-1')}", "print('never')")
    outputs = notebook.cells[1].outputs
    assert outputs[-1].output_type == "error"
    assert outputs[-1].ename == "StageFailed"
    assert notebook.cells[2].outputs == []


def test_cells_after_a_failed_stage_of_a_cell_do_not_run(project: Path) -> None:
    stages = "\n".join(PRUNE.format(name) for name in ("train-2", "fail-1", "train-3"))
    notebook = run_all(project, f"%%tao -o done\n{stages}", "print('never')")
    cards = [output for output in notebook.cells[1].outputs if output.output_type == "display_data"]
    assert ["succeeded" in cards[0].data["text/plain"], "failed" in cards[1].data["text/plain"]] == [
        True,
        True,
    ]
    assert len(cards) == 2
    assert notebook.cells[2].outputs == []


@pytest.mark.parametrize("scenario", ["noise-20000", "train-400"])
def test_a_run_of_any_length_saves_little(scenario: str, project: Path) -> None:
    notebook = run_all(project, f"%tao {PRUNE.format(scenario)}")
    assert size_bytes(notebook) < 200_000
    assert len(notebook.cells[1].outputs) == 2

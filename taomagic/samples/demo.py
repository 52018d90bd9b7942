"""``make demo``: a sample notebook from the first to the last cell, without a browser, with visible progress."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from taomagic.errors import TaoError
from taomagic.samples.files import copy_notebook


class _StatusLine:
    """The line that tells how a running command stands: redrawn in a terminal, repeated now and then elsewhere."""

    INTERVAL_S = 10.0

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._width = shutil.get_terminal_size().columns - 1
        self._last = 0.0
        self._drawn = False

    def show(self, text: str) -> None:
        if self._terminal:
            print("\r" + f"      {text}"[: self._width].ljust(self._width), end="", flush=True)
            self._drawn = True
        elif time.monotonic() - self._last >= self.INTERVAL_S:
            self._last = time.monotonic()
            print(f"      {text}", flush=True)

    def clear(self) -> None:
        if self._drawn:
            print("\r" + " " * self._width + "\r", end="")
            self._drawn = False


def run(net: str, directory: Path) -> int:
    """Execute the sample notebook of ``net`` in ``directory`` and print its closing table.

    Parameters
    ----------
    net
        ``"ssd"`` or ``"detectnet_v2"``.
    directory
        Folder for the notebook, its data and its results; an earlier demo in it is continued where data exist.

    Returns
    -------
    int
        Exit code: 0, or 1 if a cell failed.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    class Narrator(NotebookClient):
        """Executes cells and tells what happens, one line for each change of the panel's text."""

        def __init__(self, notebook: Any, **options: Any) -> None:
            super().__init__(notebook, **options)
            self._shown: list[str] = []

        def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
            content = msg.get("content", {})
            if msg["msg_type"] in {"display_data", "update_display_data"}:
                self._tell(content.get("data", {}).get("text/plain", ""))
            elif msg["msg_type"] == "stream":
                self._tell(content.get("text", ""))
            return super().process_message(msg, cell, cell_index)

        def _tell(self, text: str) -> None:
            lines = [line for line in text.splitlines() if line.strip() and not line.startswith("<Picture")]
            for line in lines:
                if line.startswith("▶"):
                    status.show(line)
                elif line not in self._shown:
                    status.clear()
                    print(f"      {line}", flush=True)
            self._shown = lines if len(lines) > 1 else [*self._shown[-200:], *lines]

    status = _StatusLine()
    folder = directory.resolve() / net
    copy_notebook(net, folder)
    path = folder / f"{net}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    code_cells = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    start = time.monotonic()

    def announce(cell: Any, cell_index: int) -> None:
        if cell.cell_type != "code":
            return
        first = next((line for line in cell.source.splitlines() if line.strip()), "")
        elapsed = time.monotonic() - start
        status.clear()
        number = code_cells.index(cell_index) + 1
        clock = f"{int(elapsed // 60)}:{elapsed % 60:04.1f}"
        print(f"[{number:2d}/{len(code_cells)}] {clock}  {first}", flush=True)

    client = Narrator(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=announce,
    )
    output = folder / f"{net}_executed.ipynb"
    failed = False
    try:
        client.execute()
    except CellExecutionError as error:
        failed = True
        print(f"\nA cell failed:\n{error}", file=sys.stderr)
    finally:
        temporary = output.with_suffix(".tmp")
        nbformat.write(notebook, temporary)
        temporary.replace(output)
    elapsed = time.monotonic() - start
    if not failed:
        table = _closing_table(notebook)
        print(f"\n{table}\n")
    print(f"{'Stopped' if failed else 'Finished'} after {int(elapsed // 60)} min {elapsed % 60:.0f} s.")
    print(f"The executed notebook: {output}")
    print(f"Open it with: {Path(sys.executable).parent / 'jupyter'} lab {output}")
    return 1 if failed else 0


def _closing_table(notebook: Any) -> str:
    """Return the text of the last output of the notebook that is a table."""
    for cell in reversed(notebook.cells):
        for output in reversed(cell.get("outputs", [])):
            text = output.get("data", {}).get("text/plain", "")
            if text.startswith("model "):
                return str(text)
    return "(no closing table)"


def main() -> int:
    """Run from the command line: ``python -m taomagic.samples.demo [NET] [DIR]``."""
    net, directory = (*sys.argv[1:3], "ssd", "demo")[:2] if len(sys.argv) < 3 else sys.argv[1:3]
    try:
        return run(net, Path(directory))
    except TaoError as problem:
        print(f"{problem.title}: {problem}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())

"""Write the sample notebooks from their sources: ``make notebooks``."""

from __future__ import annotations

import importlib
from pathlib import Path

NETS = ("ssd", "detectnet_v2")


def render(net: str) -> str:
    """Return the notebook of ``net`` as the text of an ``.ipynb`` file, without outputs.

    The same source always gives the same bytes, so that a test can tell whether the committed file is current.
    """
    import nbformat
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    cells = []
    source = importlib.import_module(f"taomagic.samples.notebook_{net}")
    for number, (kind, text) in enumerate(source.CELLS, start=1):
        name = f"{net}-{number:02d}"  # fixed ids: a random one would change the file at every build
        body = text.strip("\n")
        cells.append(new_markdown_cell(body, id=name) if kind == "md" else new_code_cell(body, id=name))
    metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return str(nbformat.writes(new_notebook(cells=cells, metadata=metadata))) + "\n"


def main(root: Path = Path("notebooks")) -> None:
    """Write ``<root>/<net>/<net>.ipynb`` for every net."""
    for net in NETS:
        path = root / net / f"{net}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(render(net), encoding="utf-8")
        temporary.replace(path)
        print(f"wrote {path}")


if __name__ == "__main__":
    main()

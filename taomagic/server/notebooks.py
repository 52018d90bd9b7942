"""New notebooks for the launcher's cards, under names that are free."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from taomagic import samples
from taomagic.errors import DataProblem, UsageProblem
from taomagic.server.places import Root

#: The kind of a notebook that only loads the extension.
EMPTY = "empty"

#: Its cells by language: markdown, then code.
_EMPTY_CELLS = {
    "en": (
        (
            "markdown",
            "# TAO notebook\n\nThe next cell loads `%tao` and says where everything is for the network that it names.",
        ),
        ("code", "%load_ext taomagic\n%tao_env ssd"),
        (
            "markdown",
            "`%tao help` lists the commands, `%tao help ssd train` the arguments of one, and\n"
            "`%tao samples specs ssd $LOCAL_SPECS_DIR` copies spec files to begin with.",
        ),
        ("code", "%tao help"),
    ),
    "zh": (
        ("markdown", "# TAO 笔记本\n\n下一个单元格加载 `%tao`，并为所写的网络列出各个路径。"),
        ("code", "%load_ext taomagic\n%tao_env ssd"),
        (
            "markdown",
            "`%tao help` 列出所有命令，`%tao help ssd train` 列出某个命令的参数，\n"
            "`%tao samples specs ssd $LOCAL_SPECS_DIR` 复制一份可以直接使用的 spec 文件。",
        ),
        ("code", "%tao help"),
    ),
}
LANGUAGES = tuple(_EMPTY_CELLS)


@dataclass(frozen=True)
class Created:
    """A new notebook, and the spec files that were put beside it."""

    notebook: Path
    specs: tuple[Path, ...]


def kinds() -> tuple[str, ...]:
    """Return the kinds of notebooks there are: the networks with a sample notebook, and :data:`EMPTY`."""
    return (*samples.notebook_nets(), EMPTY)


def create(root: Root, kind: str, path: str, language: str = "en") -> Created:
    """Write a notebook into a folder, with its specs.

    Parameters
    ----------
    root
        What the server may write into.
    kind
        One of :func:`kinds`.
    path
        An existing folder, relative to the root. Nothing in it is overwritten.
    language
        Of the empty notebook: ``en`` or ``zh``.

    Raises
    ------
    UsageProblem
        There is no such kind, folder or language.
    DataProblem
        The folder can't be written.
    """
    if kind not in kinds():
        raise UsageProblem(f"There is no notebook {kind!r}.", hint=f"There are: {', '.join(kinds())}.")
    if language not in LANGUAGES:
        raise UsageProblem(f"There is no text in {language!r}.", hint=f"There is: {', '.join(LANGUAGES)}.")
    folder = root.subfolder(path)
    if kind == EMPTY:
        return Created(_write_new(folder, "tao", _empty(language)), ())
    specs = folder / "specs"
    if specs.is_symlink() and root.contents_path(specs) is None:
        raise UsageProblem(
            "The specs can't be put beside the notebook: `specs` is a link that leads elsewhere.",
            where=str(specs),
            hint="Choose another folder.",
        )
    created = samples.copy_specs(kind, specs).created
    return Created(_write_new(folder, kind, samples.read_notebook(kind)), created)


def _empty(language: str) -> str:
    cells = []
    for number, (kind, text) in enumerate(_EMPTY_CELLS[language], start=1):
        cell: dict[str, object] = {
            "cell_type": kind,
            "id": f"tao-{number:02d}",
            "metadata": {},
            "source": text,
        }
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
        cells.append(cell)
    metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _write_new(folder: Path, stem: str, text: str) -> Path:
    """Write a file under the first free name of ``ssd.ipynb``, ``ssd1.ipynb``, …: Jupyter numbers its own files so."""
    temporary = folder / f".{stem}.{secrets.token_hex(4)}.tmp"
    try:
        temporary.write_text(text, encoding="utf-8")
        try:
            return next(path for path in _names(folder, stem) if _taken_by(temporary, path))
        finally:
            temporary.unlink()
    except OSError as error:
        raise DataProblem(
            f"The notebook can't be written: {error.strerror or error}.",
            where=str(folder),
            hint="Choose a folder that you may write.",
        ) from error


def _taken_by(temporary: Path, path: Path) -> bool:
    """Give a file its name, and tell whether that was still free."""
    try:
        # Unlike a rename, a link fails where the name is taken, even in the last moment.
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}:
            raise
        # A file system without links (FAT, some network drives).
        try:
            with path.open("xb") as file:
                file.write(temporary.read_bytes())
        except FileExistsError:
            return False
    return True


def _names(folder: Path, stem: str) -> Iterator[Path]:
    number = 0
    while True:
        yield folder / f"{stem}{number or ''}.ipynb"
        number += 1

"""Experiment files to change: the one of NVIDIA's documentation, and the edits that tests make in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from taomagic.errors import SpecProblem
from taomagic.spec.settings import Purpose
from taomagic.spec.ssd import SSDExperiment, read_experiment

DOCUMENTED = Path(__file__).parent / "data" / "documented.txt"


def put(text: str, name: str, value: str, *, block: str) -> str:
    """Return a spec with a field set: its line replaced, or a line added at the block's beginning."""
    without = drop(text, name)
    if block == "":
        return f"{name}: {value}\n{without}"
    opened = re.sub(
        rf"^(\s*{block}:? *\{{)$", rf"\1\n{name}: {_escaped(value)}", without, count=1, flags=re.MULTILINE
    )
    assert opened != without, f"there is no {block}"
    return opened


def drop(text: str, name: str) -> str:
    """Return a spec without the lines of a scalar field."""
    return re.sub(rf"^\s*{name}:.*\n", "", text, flags=re.MULTILINE)


def drop_block(text: str, name: str) -> str:
    """Return a spec without its blocks of this name."""
    while True:
        start = re.search(rf"^\s*{name}:? *\{{", text, flags=re.MULTILINE)
        if start is None:
            return text
        depth, end = 1, start.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        text = text[: start.start()] + text[end:]


def add(text: str, lines: str, *, block: str) -> str:
    """Return a spec with lines added at a block's beginning."""
    opened = re.sub(rf"^(\s*{block}:? *\{{)$", rf"\1\n{_escaped(lines)}", text, count=1, flags=re.MULTILINE)
    assert opened != text, f"there is no {block}"
    return opened


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\")


@pytest.fixture
def documented() -> str:
    return DOCUMENTED.read_text(encoding="utf-8")


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., SSDExperiment]:
    """Read an experiment from its text."""

    def read_text(text: str, purpose: Purpose = "train") -> SSDExperiment:
        path = tmp_path / "spec.txt"
        path.write_text(text, encoding="utf-8")
        return read_experiment(path, purpose=purpose, shown_as="spec.txt")

    return read_text


@pytest.fixture
def problem(read: Callable[..., SSDExperiment]) -> Callable[..., SpecProblem]:
    """Read an experiment that must be refused, and return the problem."""

    def refuse(text: str, purpose: Purpose = "train") -> SpecProblem:
        with pytest.raises(SpecProblem) as caught:
            read(text, purpose)
        return caught.value

    return refuse

"""``tao key check``: asks the engine, and keeps the key out of the process list."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from taomagic.cli import tao
from taomagic.errors import EnvironmentProblem, UsageProblem
from taomagic.launcher import key_command

HDF5 = b"\x89HDF\r\n\x1a\n"


def test_a_plain_file_needs_no_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.hdf5").write_bytes(HDF5)
    assert tao(["key", "check", str(tmp_path / "model.hdf5")]) == 0
    assert "needs no key" in capsys.readouterr().out


def test_what_cannot_be_opened_is_an_error_with_a_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tao(["key", "check", str(tmp_path / "none.tlt"), "-k", "x"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Model file: ")
    assert lines[1].startswith("Hint: ")
    assert len(lines) == 2


def test_the_key_goes_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[list[str], dict[str, str]]] = []

    def run(words: list[str], env: dict[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append((words, env))
        return subprocess.CompletedProcess(words, 0, "It is fine.\nExecution status: PASS\n", "")

    monkeypatch.setattr(subprocess, "run", run)
    said: list[str] = []
    assert key_command.run(["check", "model.tlt", "-k", "top secret"], said.append) == 0
    ((words, env),) = calls
    assert words[-3:] == ["check", "--", "model.tlt"]
    assert "top secret" not in words
    assert env["TAOMAGIC_KEY"] == "top secret"
    assert said == ["It is fine."]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs a word"),
        (["chek", "x"], "doesn't know chek"),
        (["check"], "FILE"),
        (["check", "x", "-q"], "-q"),
    ],
)
def test_a_wrong_word_is_told(words: list[str], message: str) -> None:
    with pytest.raises(UsageProblem, match=message) as caught:
        key_command.run(words)
    assert caught.value.hint


def test_a_missing_engine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 1, "", "ModuleNotFoundError: No module named 'cryptography'")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(EnvironmentProblem, match="isn't complete") as caught:
        key_command.run(["check", "x"])
    assert "taomagic[engine]" in caught.value.hint

from __future__ import annotations

import getpass
import sys

import pytest

from taomagic.view import ask


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)


@pytest.mark.usefixtures("terminal")
def test_what_is_typed_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getpass", lambda prompt: f"{prompt}secret")
    assert ask.ask_secret("Key: ") == "Key: secret"


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("problem", [EOFError, NotImplementedError])
def test_nobody_who_answers_is_an_empty_answer(
    problem: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_prompt: str) -> str:
        raise problem

    monkeypatch.setattr(getpass, "getpass", refuse)
    assert ask.ask_secret("Key: ") == ""


def test_a_script_on_standard_input_is_not_read_as_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getpass", lambda _prompt: pytest.fail("asked"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert ask.ask_secret("Key: ") == ""
    monkeypatch.setattr(sys, "stdin", None)
    assert ask.ask_secret("Key: ") == ""

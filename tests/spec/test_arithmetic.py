from __future__ import annotations

import ast
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taomagic.errors import SpecProblem
from taomagic.spec.arithmetic import evaluate

numbers = st.one_of(
    st.integers(0, 10**12).map(str),
    st.floats(0, 1e12, allow_nan=False).map(repr),
    st.sampled_from([".5", "1.", "2e-3", "1E+2", "0", "00", "007.5"]),
)
blanks = st.sampled_from(["", " ", "\n", "\t "])


def _expressions(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(children, blanks, st.sampled_from("+-*/"), blanks, children).map("".join),
        st.tuples(st.sampled_from(["-", "+", "- -"]), children).map("".join),
        children.map(lambda text: f"({text})"),
    )


scalars = st.recursive(numbers, _expressions, max_leaves=6)


def _collections(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    lists = st.lists(children, max_size=4)
    return st.one_of(
        lists.map(lambda items: f"[{', '.join(items)}]"),
        lists.filter(bool).map(lambda items: f"[{','.join(items)},]"),
        lists.filter(bool).map(lambda items: f"({' ,'.join(items)},)"),
        st.just("()"),
    )


literals = st.recursive(scalars, _collections, max_leaves=12)


@given(literals)
@settings(max_examples=200, deadline=None)
def test_gives_what_python_gives(text: str) -> None:
    try:
        # The text is generated: digits, signs and brackets only. Parentheses let it go over several lines.
        expected = eval(f"({text})", {"__builtins__": {}})
    except (ZeroDivisionError, OverflowError):
        with pytest.raises(SpecProblem):
            evaluate(text)
        return
    if not _is_finite(expected):
        with pytest.raises(SpecProblem):
            evaluate(text)
        return
    assert evaluate(text) == expected
    assert repr(evaluate(text)) == repr(expected)


def _is_finite(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_gives_a_value_or_a_spec_problem(text: str) -> None:
    try:
        evaluate(text)
    except SpecProblem:
        return


@given(st.text("0123456789.eE+-*/()[], \n_jxL'\"", max_size=60))
@settings(max_examples=200, deadline=None)
def test_text_that_looks_like_numbers_gives_pythons_value_or_a_spec_problem(text: str) -> None:
    try:
        value = evaluate(text)
    except SpecProblem:
        return
    # Indentation and line ends matter to Python outside brackets only.
    assert value == eval(f"({text.strip()}\n)", {"__builtins__": {}}) or text.strip().endswith(",")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1.0, 2.0, 0.5, 3.0, 1.0/3.0]", [1.0, 2.0, 0.5, 3.0, 1.0 / 3.0]),
        ("[[1.0, 2.0], (0.5,)]", [[1.0, 2.0], (0.5,)]),
        ("0.1, 0.1, 0.2, 0.2", (0.1, 0.1, 0.2, 0.2)),
        ("1,", (1,)),
        ("-(1 + 2) * -3 / 4", 2.25),
        ("[8, 16, (100, 90)]", [8, 16, (100, 90)]),
        ("[]", []),
        ("()", ()),
    ],
)
def test_reads_lists_tuples_and_arithmetic(text: str, value: object) -> None:
    assert evaluate(text) == value


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("[1.0, 2.0", "']' is missing"),
        ("(1, 2", "')' is missing"),
        ("[1.0, 2.0]]", "']' is not expected at character 11"),
        ("[1,,2]", "',' is not expected at character 4"),
        ("[1 2]", "'2' is not expected at character 4"),
        ("(1]", "']' is not expected at character 3"),
        ("1/0", "divides by zero"),
        ("1/(1-1)", "divides by zero"),
        ("1e999", "too large"),
        ("1e300*1e300", "too large"),
        ("-1e300*1e300", "too large"),
        ("[1]*3", "takes numbers, not lists"),
        ("-[1]", "takes numbers, not lists"),
        ("[1] + [2]", "takes numbers, not lists"),
        ("1.5.2", "'1.5.2' at character 1 is not a number"),
        ("1_000", "'1_000' at character 1 is not a number"),
        ("0x10", "'0x10' at character 1 is not a number"),
        ("1j", "'1j' at character 1 is not a number"),
        ("٣", "is not a number"),
        ("007", "starts with a zero"),
        ("2**3", "'*' is not expected"),
        ("7//2", "'/' is not expected"),
        ("9" * 50, "more than 40 characters"),
        ("[" * 50 + "]" * 50, "nested more than"),
        ("1," * 9000, "10000 at most"),
        ("(" * 9000, "nested more than"),
    ],
)
def test_refuses_with_the_reason(text: str, what: str) -> None:
    with pytest.raises(SpecProblem, match="can't read the list of numbers") as caught:
        evaluate(text)
    assert what in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x')",
        "open('x')",
        "[].__class__",
        "lambda: 1",
        "[x for x in (1,)]",
        "a",
        "'1'",
        "{1: 2}",
        "...",
        "None",
    ],
)
def test_never_runs_or_looks_up_anything(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("the text was handed to Python")

    for name in ("eval", "exec", "compile"):
        monkeypatch.setattr("builtins." + name, forbidden)
    monkeypatch.setattr(ast, "parse", forbidden)
    with pytest.raises(SpecProblem):
        evaluate(text)


def test_names_the_place() -> None:
    with pytest.raises(SpecProblem) as caught:
        evaluate("[x]", path="spec.txt", line=7)
    assert caught.value.where == "spec.txt:7"
    assert caught.value.line == 7

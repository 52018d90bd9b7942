from __future__ import annotations

import math
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taomagic.errors import EnvironmentProblem, UsageProblem
from taomagic.launcher.cells import Names, Stage, split_cell, split_words

NAMES = Names(
    {"A": "x y", "n": 3, "more": ["-a", 1], "p": Path("/p q"), "nothing": None, "os": os},
    {"A": "env", "B": "/b", "E": ""},
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b", ["a", "b"]),
        ("$A", ["x y"]),
        ("${A}/c $B/d", ["x y/c", "/b/d"]),
        ("{n + 1} {A}", ["4", "x y"]),
        ("{p}/x", ["/p q/x"]),
        ("$more {more}", ["-a", "1", "-a", "1"]),
        ("'$A {n}' \"$A {n}\"", ["$A {n}", "x y 3"]),
        ("$$A {{n}} a$ $1", ["$A", "{n}", "a$", "$1"]),
        (r"a\ b it\'s \$A", ["a b", "it's", "$A"]),
        ('"a#b" a#b # comment $UNSET', ["a#b", "a#b"]),
        ("a \\\n  b\n\tc # d\n# e\nf", ["a", "b", "c", "f"]),
        ("64\\\n--flag a\\  \nb", ["64", "--flag", "a", "b"]),
        ("'' \"\"", ["", ""]),
        ("汉字 ünï", ["汉字", "ünï"]),
        ('"it\'s" \'say "x"\'', ["it's", 'say "x"']),
        ("{ {'a': 'b}'}['a'] }", ["b}"]),
        ("*.txt a;b $(x) `y` ~", ["*.txt", "a;b", "$(x)", "`y`", "~"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert split_words(text, NAMES) == expected


def test_without_names_nothing_is_expanded() -> None:
    assert split_words("$A {b} '$C'") == ["$A", "{b}", "$C"]


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("-e $SPEC_DIR/x", EnvironmentProblem, r"\$SPEC_DIR isn't set"),
        ("${UNSET}", EnvironmentProblem, r"\$UNSET isn't set"),
        ("{UNSET}", EnvironmentProblem, r"\$UNSET isn't set"),
        ("$E", EnvironmentProblem, r"\$E is empty"),
        ("$nothing", EnvironmentProblem, "isn't set"),
        ("$os", EnvironmentProblem, "isn't set"),
        ("{1/0}", UsageProblem, "ZeroDivisionError"),
        ("{a b}", UsageProblem, "SyntaxError"),
        ("{n", UsageProblem, "brace isn't closed"),
        ("it's", UsageProblem, "quote isn't closed"),
        ('"a', UsageProblem, "quote isn't closed"),
        ('"a\\"', UsageProblem, "quote isn't closed"),
        ("x$more", UsageProblem, "list can only stand alone"),
        ("${a-b}", UsageProblem, "isn't a variable"),
    ],
)
def test_mistakes_are_named(text: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        split_words(text, NAMES)


def test_unset_variable_hints_at_the_nearest() -> None:
    with pytest.raises(EnvironmentProblem) as caught:
        split_words("$SPEC_DIR", Names({}, {"SPECS_DIR": "/s"}))
    assert caught.value.hint == "Did you mean $SPECS_DIR?"


ARGUMENTS = SimpleNamespace(lr=0.1, model=SimpleNamespace(name="ssd"), nothing=None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$args.lr $args.model.name/x $args.lr.txt", ["0.1", "ssd/x", "0.1.txt"]),
        ("$weights.tlt $n.5 $p.name", ["/w.tlt", "3.5", "q.tlt"]),
        ("{n:03d} {x!r:>6} {x!s}", ["003", "   'a'", "a"]),
        ("{n != 3} {d['a'][0:2]}", ["False", "bc"]),
        ("{' '.join(str(n * i) for i in range(3))}", ["0 3 6"]),
    ],
)
def test_attributes_formats_and_scopes_are_pythons(text: str, expected: list[str]) -> None:
    names = {"args": ARGUMENTS, "weights": "/w", "n": 3, "p": Path("/p/q.tlt"), "x": "a", "d": {"a": "bcd"}}
    assert split_words(text, Names(names, {})) == expected


def test_a_wrong_format_is_named() -> None:
    with pytest.raises(UsageProblem, match="can't be computed: ValueError"):
        split_words("{x:.2f}", Names({"x": "text"}, {}))


def test_a_pasted_shell_line_is_read_by_the_shells_rules_and_other_stages_are_not() -> None:
    stages = split_cell("", "!tao ssd train -e a\nssd evaluate -e b\n")
    assert [stage.shell for stage in stages] == [True, False]


def test_expression_sees_the_namespace_and_builtins() -> None:
    assert split_words("{round(math.pi, 2)}", Names({"math": math}, {})) == ["3.14"]


@given(st.lists(st.text(min_size=0, max_size=12), max_size=6))
def test_quoted_words_come_back_unchanged(words: list[str]) -> None:
    quoted = " ".join("'" + word.replace("'", "'\"'\"'") + "'" for word in words)
    assert split_words(quoted, Names({}, {})) == words


def test_body_continues_a_line_with_a_task() -> None:
    [stage] = split_cell("ssd train", "  -e a \\\n-r b  # there\n# alone\n\n   -k c")
    assert stage.line == 1
    assert split_words(stage.text) == ["ssd", "train", "-e", "a", "-r", "b", "-k", "c"]


def test_each_line_at_the_margin_begins_a_stage() -> None:
    stages = split_cell(
        "", "# first\nssd train -e a\n  -r b\n-k c\n\nssd evaluate -e 'x\ny' \\\nssd\nssd export\n"
    )
    assert [stage.line for stage in stages] == [3, 7, 10]
    assert [split_words(stage.text) for stage in stages] == [
        ["ssd", "train", "-e", "a", "-r", "b", "-k", "c"],
        ["ssd", "evaluate", "-e", "x\ny", "ssd"],
        ["ssd", "export"],
    ]


def test_lines_of_nvidias_notebooks_can_be_pasted() -> None:
    stages = split_cell(
        "", "!tao model ssd train -e a \\\n               -r b\n!tao-deploy ssd evaluate -m c\n%tao list\n"
    )
    assert [split_words(stage.text) for stage in stages] == [
        ["model", "ssd", "train", "-e", "a", "-r", "b"],
        ["deploy", "ssd", "evaluate", "-m", "c"],
        ["list"],
    ]
    assert split_cell("tao ssd train") == [Stage("ssd train", 1)]


def test_apostrophe_in_a_comment_opens_no_quote() -> None:
    assert len(split_cell("", "ssd train -e a # don't\nssd export")) == 2


@pytest.mark.parametrize("body", ["", "\n\n", "# only a comment"])
def test_empty_cell_is_an_error(body: str) -> None:
    with pytest.raises(UsageProblem, match="no command"):
        split_cell("", body)


def test_argument_before_any_task_is_an_error() -> None:
    with pytest.raises(UsageProblem, match="Line 2"):
        split_cell("", "  -e a\nssd train")


@pytest.mark.parametrize(
    "text",
    [
        'ssd train -k "secret1 -e x',
        'ssd train --key="secret1',
        'ssd train --key secret1"x',
        "ssd train -k'secret1",
        'ssd train -e "a -k secret1',
        'train encryption_key="secret1',
    ],
)
def test_unclosed_quote_does_not_tell_the_key(text: str) -> None:
    with pytest.raises(UsageProblem, match="quote isn't closed") as caught:
        split_words(text, NAMES)
    assert "secret1" not in str(caught.value)

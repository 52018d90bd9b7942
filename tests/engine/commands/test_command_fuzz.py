"""Any words at all: a command of the engine ends with one clear error or well, never with a bare traceback."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taomagic.engine import cli
from taomagic.errors import UsageProblem
from taomagic.spec.arguments import SUBTASKS, parser

from .conftest import EXPORT_SPEC, SPEC

NUMBERS = ("-1", "0", "1", "1.5", "1e400", "nan", "inf", "x", "9" * 30, "٣", "1_0", " 1")
#: Files of the folder that the commands run in, and what is in them.
FILES = {
    "train.txt": SPEC.encode(),
    "convert.txt": EXPORT_SPEC.encode(),
    "empty": b"",
    "bytes.tlt": bytes(range(256)) * 8,
    "noise.hdf5": b"\x89HDF\r\n\x1a\n" + bytes(200),
    "text.onnx": b"nothing of a model\n",
    "brace.txt": b"ssd_config { " * 300,
    "utf16.txt": SPEC.encode("utf-16"),
    "picture.jpg": b"\xff\xd8\xff\xe0" + bytes(50),
    "数据.txt": "training_config { num_epochs: 三 }".encode(),
}
PATHS = (
    *FILES, "folder", "folder/", "missing.txt", "missing/deep/x.tlt", "", ".", "a b", "train.txt/x", "x" * 300,
    "sur\udcffrogate", "-", "--", "~", "$KEY", "{x}", "/workspace/tao-experiments/none.tlt",
)  # fmt: skip
JUNK = ("--nonsense", "-q", "-pthh", "--model=", "word", "--", "-", "-k=", "--gpus=1", "-e", "🙂")


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of bad files to run in. Nothing starts processes."""
    place = tmp_path_factory.mktemp("fuzz")
    (place / "folder").mkdir()
    for name, content in FILES.items():
        (place / name).write_bytes(content)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    logger = logging.getLogger("taomagic")
    before, level, propagates = list(logger.handlers), logger.level, logger.propagate

    def refuse(*_args: object) -> None:
        raise UsageProblem("no processes here")

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(cli, "_execute_in_processes", refuse)
        patch.delenv("LAUNCHER_MOUNTS", raising=False)
        patch.delenv("TAOMAGIC_KEY", raising=False)
        yield place
    for number, handler in handlers.items():
        signal.signal(number, handler)
    logger.handlers[:], logger.propagate = before, propagates
    logger.setLevel(level)


def ended(words: list[str]) -> tuple[int, str]:
    """Run a command; return its exit code and what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code = cli.main(words)
        except SystemExit as end:  # --help
            return int(end.code or 0), "help"
    return code, printed.getvalue()


def check(words: list[str]) -> None:
    code, output = ended(words)
    assert code in {0, 1}, words
    if output == "help":
        return
    assert "Traceback" not in output, (words, output)
    assert "This is a mistake in taomagic" not in output, (words, output)
    errors = [line for line in output.splitlines() if line.startswith("ERROR: ")]
    assert len(errors) == code, (words, output)
    assert output.rstrip().endswith("Execution status: FAIL" if code else "Execution status: PASS"), words


# What an operating system can hand over: no null characters, and of half characters those that stand for odd bytes.
letters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
values = st.one_of(st.sampled_from(PATHS), st.sampled_from(NUMBERS), st.text(letters, max_size=12))


@st.composite
def commands(draw: st.DrawFn) -> list[str]:
    """Draw a sub-task with most of the flags that it needs, and some that it doesn't."""
    subtask = draw(st.sampled_from(SUBTASKS["ssd"]))
    words = ["ssd", subtask]
    actions = [action for action in parser("ssd", subtask)._actions if action.dest != "help"]
    for action in actions:
        likely = 9 if action.required else 2
        if draw(st.integers(0, 9)) >= likely:
            continue
        flag = draw(st.sampled_from(action.option_strings))
        words.append(flag)
        if action.nargs != 0:
            count = draw(st.integers(0, 3)) if action.nargs in {"*", "+"} else 1
            chosen = st.sampled_from(sorted(map(str, action.choices))) if action.choices else values
            words += [draw(st.one_of(chosen, values)) for _ in range(count)]
    if draw(st.integers(0, 9)) == 0:
        words.insert(draw(st.integers(0, len(words))), draw(st.sampled_from(JUNK)))
    return words


@settings(max_examples=80, deadline=None)
@given(words=commands())
@example(words=["ssd", "prune", "-m", "bytes.tlt", "-o", "x", "-k", "a key"])
@example(words=["ssd", "prune", "-m", "noise.hdf5", "-o", "x"])
@example(words=["ssd", "train", "-e", "train.txt", "-r", "sur\udcffrogate"])
@example(words=["ssd", "train", "-e", "train.txt", "-r", "train.txt"])
@example(words=["ssd", "evaluate", "-e", "train.txt", "-m", "folder"])
@example(words=["ssd", "export", "-e", "train.txt", "-m", "x" * 300])
@example(words=["ssd", "inference", "-e", "utf16.txt", "-m", "bytes.tlt", "-i", "folder", "-r", "out"])
@example(words=["ssd", "dataset_convert", "-d", "convert.txt", "-o", "x" * 300])
@example(words=["ssd", "dataset_convert", "-d", "convert.txt", "-o", "folder/x", "--log_file", "folder"])
@example(words=["ssd", "prune", "-m", "bytes.tlt", "-o", "x", "--log_file", "x" * 300])
def test_no_words_end_in_a_traceback(words: list[str]) -> None:
    check(words)


@settings(max_examples=60, deadline=None)
@given(words=st.lists(st.one_of(st.sampled_from(["ssd", *SUBTASKS["ssd"], *JUNK]), values), max_size=8))
def test_no_heap_of_words_ends_in_a_traceback(words: list[str]) -> None:
    check(words)


def test_the_folder_of_the_commands_stays_theirs(folder: Path) -> None:
    for name, content in FILES.items():
        # --log_file appends, whatever the file is; nothing else may touch them.
        assert (folder / name).read_bytes().startswith(content), name
    assert not os.path.lexists("/status.json")

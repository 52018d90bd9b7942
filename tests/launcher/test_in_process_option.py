"""``--in-process`` on a line: where it may stand, what it excludes, how it is completed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from taomagic.errors import EnvironmentProblem, UsageProblem
from taomagic.launcher import backends
from taomagic.launcher.command import Command, parse_command
from taomagic.launcher.completion import Facts, complete
from taomagic.launcher.context import Context
from taomagic.launcher.launch import launch_in_process
from taomagic.launcher.names import Names
from taomagic.launcher.options import take_options

PRUNE = Command("run", "model", "ssd", "prune", ("-m", "a.hdf5", "-o", "b"))


def test_it_stands_before_the_task() -> None:
    options, rest = take_options(" --in-process --raw -o r ssd train -e x")
    assert options.in_process
    assert (options.raw, options.out, rest.split()) == (True, "r", ["ssd", "train", "-e", "x"])
    assert not take_options("ssd train --in-process")[0].in_process


@pytest.mark.parametrize(
    "line", ["--in-process --background ssd train", "--backend docker --in-process ssd train"]
)
def test_it_excludes_the_background_and_containers(line: str) -> None:
    with pytest.raises(UsageProblem, match="exclude each other"):
        take_options(line)


@pytest.mark.parametrize(("wish", "environ"), [("docker", {}), (None, {"TAOMAGIC_BACKEND": "docker"})])
def test_a_backend_that_was_chosen_elsewhere_is_not_overruled(
    wish: str | None, environ: Mapping[str, str]
) -> None:
    with pytest.raises(UsageProblem, match="the backend is docker") as caught:
        backends.require_here(PRUNE, wish, environ)
    assert "--backend process" in caught.value.hint
    backends.require_here(PRUNE, "process", environ)
    backends.require_here(PRUNE, None, {"TAO_DOCKER_DISABLE": "1"})


def test_only_what_the_embedded_engine_knows_runs_here() -> None:
    with pytest.raises(EnvironmentProblem, match="can't run yolo_v4 prune"):
        backends.require_here(replace(PRUNE, task="yolo_v4"), None, {})
    with pytest.raises(EnvironmentProblem, match="ssd run"):
        backends.require_here(parse_command(["ssd", "run", "ls"]), None, {})


@pytest.mark.parametrize("word", ["nul\0byte", "half\ud800"])
def test_words_that_no_file_can_have_are_refused(context: Context, word: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        launch_in_process(replace(PRUNE, args=("-m", word, "-o", "b"), typed=()), context)
    assert caught.value.hint
    assert not (context.project_dir / ".tao").exists()


def test_the_tab_key_completes_it(context: Context) -> None:
    found = complete("%tao --in", Facts(Names({}), context))
    assert found is not None
    assert found.words == ("--in-process",)
    behind = complete("%tao --in-process ss", Facts(Names({}), context))
    assert behind is not None
    assert "ssd" in behind.words


def test_commands_and_contexts_do_not_show_the_key(context: Context) -> None:
    command = replace(PRUNE, args=("-k", "secret-key"), typed=())
    there = replace(context, environ={"KEY": "secret-key"})
    assert "secret-key" not in repr(command) + repr(there)
    assert "ssd prune" in repr(command)

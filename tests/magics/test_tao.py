from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from taomagic import magics
from taomagic.errors import (
    EnvironmentProblem,
    ModelFileProblem,
    StageFailed,
    StageInterrupted,
    TaoError,
    UsageProblem,
)
from taomagic.launcher.context import Context
from taomagic.launcher.control import all_jobs
from taomagic.launcher.job import Job
from taomagic.launcher.options import Options, take_options
from taomagic.launcher.result import Result
from taomagic.launcher.states import JobState

PRUNE = "ssd prune -m $USER_EXPERIMENT_DIR/{}.hdf5 -o $USER_EXPERIMENT_DIR/out.hdf5 -k $KEY"


def test_a_command_shows_one_line_per_epoch_and_returns_a_short_result(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    result = shell.run_line_magic("tao", PRUNE.format("train-3"))
    out = capsys.readouterr().out
    assert isinstance(result, Result)
    assert result.ok
    assert re.findall(r"^Epoch (\d)/3  loss", out, re.MULTILINE) == ["1", "2", "3"]
    assert "saved e_003.tlt" in out
    assert "4/4 [" not in out, "the bar is folded away"
    assert "secret-key" not in out
    assert len(repr(result)) < 100


def test_options_stand_before_the_task_and_leave_taos_own_o_alone(shell: InteractiveShell) -> None:
    shell.run_cell("%tao -o pruned " + PRUNE.format("ok"))
    assert shell.user_ns["pruned"].ok
    assert "-o /workspace/tao-experiments/ssd/out.hdf5" in shell.user_ns["pruned"].command


def test_assigning_a_command_gives_the_result(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shell.run_cell("result = %tao " + PRUNE.format("train-2"))
    assert run.success
    assert shell.user_ns["result"].metrics["mAP"] == 0.7
    assert capsys.readouterr().out.count("✓ tao ssd prune succeeded") == 1


def test_a_failure_raises_with_cause_hint_tail_and_log_and_keeps_the_job(shell: InteractiveShell) -> None:
    with pytest.raises(StageFailed) as caught:
        shell.run_line_magic("tao", "-o job " + PRUNE.format("fail-3"))
    drawn = "\n".join(caught.value._render_traceback_())
    assert "the model <b>is</b> pruned already" in drawn
    assert "Hint: take the unpruned one" in drawn
    assert "Exit code: 3" in drawn
    assert "│ loading" in drawn
    job = shell.user_ns["job"]
    assert isinstance(job, Job)
    assert job.state is JobState.FAILED
    assert str(job.log_path) in drawn


def test_an_unset_variable_is_an_error_that_names_it_and_starts_nothing(shell: InteractiveShell) -> None:
    with pytest.raises(EnvironmentProblem, match=r"\$USER_EXPERIMENT_DIRR isn't set") as caught:
        shell.run_line_magic("tao", "ssd prune -m $USER_EXPERIMENT_DIRR/ok.hdf5 -o x.hdf5")
    assert "$USER_EXPERIMENT_DIR" in caught.value.hint


def test_ipython_leaves_dollars_and_braces_to_us(shell: InteractiveShell) -> None:
    shell.user_ns["models"] = ["ok"]
    run = shell.run_cell(
        "%tao -o r ssd prune -m {USER_EXPERIMENT_DIR}/{models[0]}.hdf5 -o $USER_EXPERIMENT_DIR/out.hdf5"
    )
    assert run.success
    assert "/workspace/tao-experiments/ssd/ok.hdf5" in shell.user_ns["r"].command


def test_what_can_be_known_beforehand_is_told_before_anything_starts(shell: InteractiveShell) -> None:
    with pytest.raises(ModelFileProblem, match=r"no such model"):
        shell.run_line_magic("tao", PRUNE.format("missing"))
    with pytest.raises(UsageProblem, match="no task"):
        shell.run_line_magic("tao", "sssd prune")


def test_a_cell_continues_the_line(shell: InteractiveShell) -> None:
    cell = "  -m $USER_EXPERIMENT_DIR/ok.hdf5   # the model\n\n  -o $USER_EXPERIMENT_DIR/out.hdf5 \\\n  -k $KEY\n"
    assert shell.run_cell_magic("tao", "ssd prune", cell).ok


def test_stages_run_in_order_and_stop_at_the_first_failure(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = "\n".join(PRUNE.format(name) for name in ("train-2", "fail-1", "train-3"))
    with pytest.raises(StageFailed):
        shell.run_cell_magic("tao", "", stages)
    out = capsys.readouterr().out
    assert "Epoch 2/2" in out
    assert "Epoch 1/3" not in out


def test_all_stages_are_understood_before_the_first_one_starts(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageProblem):
        shell.run_cell_magic("tao", "", PRUNE.format("train-2") + "\nssd prun -m x\n")
    assert "Epoch" not in capsys.readouterr().out


def test_several_stages_give_a_list_of_results(shell: InteractiveShell) -> None:
    shell.run_cell_magic("tao", "-o both", PRUNE.format("ok") + "\n" + PRUNE.format("train-2"))
    assert [result.ok for result in shell.user_ns["both"]] == [True, True]


@pytest.mark.parametrize("place", ["--background {}", "{} --background"])
def test_a_background_job_comes_back_at_once_and_can_be_listed_followed_and_stopped(
    place: str, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    job = shell.run_line_magic("tao", place.format(PRUNE.format("polite")))
    assert isinstance(job, Job)
    assert not job.state.finished
    shell.run_line_magic("tao", "list")
    listed = capsys.readouterr().out
    assert job.id in listed
    assert "secret-key" not in listed
    while "holding on" not in job.log_path.read_text():
        pass
    shell.run_line_magic("tao", f"stop {job.id[:6]}")
    assert "Stopped jobs" in capsys.readouterr().out
    assert job.state is JobState.STOPPED
    with pytest.raises(StageFailed):
        shell.run_line_magic("tao", f"attach {job.id}")
    assert "stopping after this batch" in capsys.readouterr().out


def test_several_stages_in_the_background_are_refused(shell: InteractiveShell) -> None:
    with pytest.raises(UsageProblem, match="background"):
        shell.run_cell_magic("tao", "--background", PRUNE.format("ok") + "\n" + PRUNE.format("ok"))


def test_raw_shows_the_log_as_it_is(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_line_magic("tao", "--raw " + PRUNE.format("train-2"))
    assert "4/4 [==========] - 1s 250ms/step - loss: 4.0000" in capsys.readouterr().out


def test_the_words_of_the_shell_work_in_a_cell(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_line_magic("tao", "info")
    assert capsys.readouterr().out.startswith("Configuration of the TAO Toolkit Instance")
    shell.run_line_magic("tao", "help ssd train")
    assert "--experiment_spec" in capsys.readouterr().out or "-e" in capsys.readouterr().out
    job = shell.run_line_magic("tao", PRUNE.format("train-2"))
    capsys.readouterr()
    shell.run_line_magic("tao", f"logs {job.job_id}")
    assert "Validation loss: 1.50000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "options", "rest"),
    [
        ("ssd export -o x.onnx", Options(), "ssd export -o x.onnx"),
        (" -o r --raw ssd train", Options(out="r", raw=True), " ssd train"),
        ("--out=r --backend process ssd", Options(out="r", backend="process"), " ssd"),
        ("--background", Options(background=True), ""),
        (
            "--release 4.0.0 --volume=$D:/d --volume '/a b:/c' ssd",
            Options(release="4.0.0", volumes=("$D:/d", "'/a b:/c'")),
            " ssd",
        ),
        ("", Options(), ""),
    ],
)
def test_own_options_are_taken_from_the_front_only(line: str, options: Options, rest: str) -> None:
    assert take_options(line) == (options, rest)


@pytest.mark.parametrize(
    "line", ["-o 1x ssd train", "-o", "--backend moon ssd", "-x ssd train", "--raww ssd"]
)
def test_a_wrong_option_is_told(line: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        take_options(line)
    assert caught.value.hint


def test_every_error_is_drawn_without_a_traceback(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in ("ssd", "nonsense", "attach nothing", "-o 1 x", PRUNE.format("missing")):
        run = shell.run_cell(f"%tao {line}")
        assert isinstance(run.error_in_exec, TaoError)
    out = capsys.readouterr().out
    assert "Traceback" not in out
    assert out.count("Hint: ") == 5


@pytest.mark.parametrize(
    "line", ["--key=secret1 ssd train", "-ksecret1 ssd train", '--key "secret1 ssd train']
)
def test_a_refused_option_does_not_tell_the_key(line: str) -> None:
    with pytest.raises(UsageProblem, match="isn't an option") as caught:
        take_options(line)
    assert "secret1" not in str(caught.value)


@pytest.mark.parametrize("line", ["-o", "--out", "--backend --raw ssd train"])
def test_an_option_without_its_value_is_told_so(line: str) -> None:
    with pytest.raises(UsageProblem, match="needs a value"):
        take_options(line)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("--bakend process ssd train", "Did you mean --backend?"),
        ("--backend dockr ssd train", "Did you mean docker?"),
        ("ssd trian -e x", "Did you mean train?"),
        ("sdd train -e x", "Did you mean ssd?"),
        ("stpo x", "Did you mean stop?"),
        ("ssd prune --modle x -o y", "Did you mean --model?"),
        (
            "ssd evaluate -m $USER_EXPERIMENT_DIR/ok.hdf5 -e $SPECS_DIR/ssd_trian.txt",
            "Did you mean ssd_train.txt?",
        ),
        ("--release 5.5.1.2 ssd train", "Releases: "),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(line: str, hint: str, shell: InteractiveShell) -> None:
    Path("specs/ssd_train.txt").touch()
    with pytest.raises(TaoError) as caught:
        shell.run_line_magic("tao", line)
    assert hint in caught.value.hint


def test_a_task_alone_has_no_terminal_to_open_a_shell_in(shell: InteractiveShell) -> None:
    with pytest.raises(UsageProblem, match="a notebook has no terminal") as caught:
        shell.run_line_magic("tao", "ssd")
    assert "%tao ssd run ls" in caught.value.hint
    assert "dataset_convert, train" in caught.value.hint


@pytest.mark.parametrize(
    "line", ["ssd prune -m missing.hdf5 -o x.hdf5", "nonsense", "ssd prune -m $UNSET -o x"]
)
def test_a_refused_command_leaves_no_older_result_under_its_name(line: str, shell: InteractiveShell) -> None:
    shell.run_cell("%tao -o r " + PRUNE.format("ok"))
    assert shell.user_ns["r"].ok
    with pytest.raises(TaoError):
        shell.run_line_magic("tao", f"-o r {line}")
    assert shell.user_ns["r"] is None


def test_a_volume_before_the_task_reaches_the_command(shell: InteractiveShell, tmp_path: Path) -> None:
    shell.user_ns["folder"] = tmp_path
    result = shell.run_line_magic("tao", f"--volume {{folder}}:/more {PRUNE.format('ok')}")
    assert f"--volume={tmp_path}:/more" in result.command
    with pytest.raises(UsageProblem, match="--volume"):
        shell.run_line_magic("tao", "--volume /a:/b list")
    with pytest.raises(UsageProblem, match="SOURCE:DESTINATION"):
        shell.run_line_magic("tao", f"--volume nowhere {PRUNE.format('ok')}")


def test_a_release_counts_for_one_command(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_line_magic("tao", "--release 4.0.0 info")
    assert "toolkit_version: 4.0.0" in capsys.readouterr().out
    shell.run_line_magic("tao", "info")
    assert "toolkit_version: 4.0.0" not in capsys.readouterr().out


def test_names_of_a_function_are_seen_in_its_commands(shell: InteractiveShell) -> None:
    run = shell.run_cell(
        "def prune(name):\n    return get_ipython().run_line_magic('tao', "
        "'ssd prune -m $USER_EXPERIMENT_DIR/{name}.hdf5 -o $USER_EXPERIMENT_DIR/o.hdf5')\nprune('ok')"
    )
    assert run.result.ok


def interrupted(*_args: object, **_options: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("taomagic.magics.launch", PRUNE.format("ok")),
        ("taomagic.magics.read_stage", PRUNE.format("ok")),
        ("taomagic.launcher.control.listed_jobs", "list"),
        ("taomagic.view.live.choose_view", PRUNE.format("stubborn")),
    ],
)
def test_an_interrupt_at_any_moment_is_told_in_two_lines_and_leaves_nothing_running(
    place: str,
    line: str,
    shell: InteractiveShell,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(place, interrupted)
        run = shell.run_cell(f"%tao {line}")
    assert isinstance(run.error_in_exec, StageInterrupted)
    assert "Traceback" not in capsys.readouterr().out
    # The stand-in takes no polite request; that it was sent is what counts.
    for job in all_jobs(Context.current(), everywhere=False):
        job.kill()


def test_a_command_that_is_interrupted_while_it_starts_is_asked_to_stop(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = magics.launch

    def start_and_be_interrupted(*args: Any, **options: Any) -> None:
        job, _ = real(*args, **options)
        while "holding on" not in (job.log_path.read_text() if job.log_path.exists() else ""):
            time.sleep(0.02)
        raise KeyboardInterrupt

    monkeypatch.setattr("taomagic.magics.launch", start_and_be_interrupted)
    with pytest.raises(StageInterrupted):
        shell.run_line_magic("tao", PRUNE.format("polite"))
    [job] = all_jobs(Context.current(), everywhere=False)
    assert job.ends_within(20)
    assert job.state is JobState.STOPPED


def test_help_is_told_for_everything(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    for line, text in (
        ("help ssd train", "--experiment_spec_file"),
        ("help", "control words"),
        ("help ssd", "dataset_convert"),
        ("ssd train --help", "--experiment_spec_file"),
        ("--help", "control words"),
    ):
        shell.run_line_magic("tao", line)
        assert text in capsys.readouterr().out, line
    for magic, words in (
        ("%tao", ["--background", "await job", "!tao", "list | attach"]),
        ("%%tao", ["--background"]),
        ("%tao_env", ["--release", "--lang", "mount map"]),
        ("%%tao_spec", ["experiment file"]),
    ):
        shell.run_cell(f"{magic}?")
        shown = capsys.readouterr().out
        assert all(word in shown for word in words), magic

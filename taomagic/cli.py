"""The `tao` and `tao-deploy` commands: the same launcher as in the notebook, in a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import taomagic
import taomagic.deferred  # before anything that imports dataclasses
from taomagic.errors import StageInterrupted, TaoError, UsageProblem
from taomagic.launcher import catalog, command
from taomagic.launcher.command import Command
from taomagic.launcher.states import JobState
from taomagic.view import texts
from taomagic.view.texts import tr

if TYPE_CHECKING:
    from taomagic.launcher.job import Job
    from taomagic.launcher.launch import PullView
    from taomagic.launcher.result import Result

_RELEASE = "TAOMAGIC_RELEASE"


def tao(argv: Sequence[str] | None = None) -> int:
    """Run `tao …` and return its exit code."""
    return _main("tao", argv)


def tao_deploy(argv: Sequence[str] | None = None) -> int:
    """Run `tao-deploy …` (TAO 4.0's name for `tao deploy …`) and return its exit code."""
    return _main("tao-deploy", argv)


def _main(prog: str, argv: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    texts.install(terminal=True)
    try:
        return _run(prog, words)
    except StageInterrupted as problem:
        print(problem, file=sys.stderr)
        return 130
    except TaoError as problem:
        print(problem, file=sys.stderr)
        return 2 if isinstance(problem, UsageProblem) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        import signal

        # `tao logs | head`: the reader has what it wanted. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _run(prog: str, words: list[str]) -> int:
    if words in (["--version"], ["-V"]):
        print(f"taomagic {taomagic.__version__}, TAO Toolkit {catalog.release().name}")
        return 0
    if not words:
        from taomagic.cli_help import overview

        print(tr(overview(prog)))
        return 0
    options, words = own_options(words)
    with release_chosen(options.get("release", "")):
        wanted = command.parse_command(words, prog=prog)
        if wanted.action != "run" and "in-process" in options:
            raise UsageProblem(f"--in-process means nothing for {wanted.action}.", hint=f"tao {wanted.label}")
        return carry_out(wanted) if wanted.action != "run" else _run_task(wanted, options)


@contextmanager
def release_chosen(wish: str) -> Iterator[None]:
    """Let a release count for what happens inside; without a wish nothing changes.

    Raises
    ------
    EnvironmentProblem
        There is no such release.
    """
    before = os.environ.get(_RELEASE)
    if wish:
        os.environ[_RELEASE] = catalog.release_name(wish)
    try:
        yield
    finally:
        if wish:
            os.environ.pop(_RELEASE)
            os.environ.update({} if before is None else {_RELEASE: before})


def carry_out(wanted: Command) -> int:
    """Carry out a control word, here as in a cell: print what it finds, return the exit code.

    Raises
    ------
    TaoError
        It can't be carried out.
    """
    return _CONTROL[wanted.action](wanted)


def own_options(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Take our own options out of the words, wherever they stand; --release only before the task.

    Returns
    -------
    dict of str to str
        Their values by name; ``yes`` for those without.
    list of str
        The other words.

    Raises
    ------
    UsageProblem
        An option has no value.
    """
    options: dict[str, str] = {}
    rest: list[str] = []
    if words[:1] == ["notebook"]:
        return options, list(words)  # it has options of the same names, for all commands of the notebook
    following = iter(words)
    for word in following:
        if word in {"--background", "--raw", "--in-process"}:
            options[word[2:]] = "yes"
        elif word == "--backend":
            options["backend"] = next(following, "")
            if not options["backend"]:
                raise UsageProblem("--backend needs a value.", hint="--backend auto, process or docker")
        elif word.startswith("--backend="):
            options["backend"] = word.partition("=")[2]
        elif word.partition("=")[0] == "--release" and all(each in catalog.GROUPS for each in rest):
            options["release"] = word.partition("=")[2] if "=" in word else next(following, "")
            if not options["release"]:
                raise UsageProblem(
                    "--release needs a value.", hint=f"Releases: {', '.join(catalog.release_names())}."
                )
        else:
            rest.append(word)
            if word == command.RUN and _is_behind_task(rest[:-1]):
                rest += following  # `tao ssd run PROGRAM …`: all that follows is the program's
    return options, rest


def _is_behind_task(words: list[str]) -> bool:
    """Tell whether the words are a task and nothing but volumes for it: then `run` is next."""
    try:
        words = command.split_volumes(words)[0]
    except UsageProblem:  # told in its turn
        return False
    return len(words) == (2 if words[:1] and words[0] in catalog.GROUPS else 1)


def _run_task(wanted: Command, options: Mapping[str, str]) -> int:
    from taomagic.launcher.launch import launch

    if wanted.wants_shell:
        from taomagic.launcher.containers.shell import open_shell
        from taomagic.launcher.context import Context

        return open_shell(wanted, Context.current(), _pull_view())
    if "in-process" in options:
        return _run_here(wanted, options)
    job, warnings = launch(wanted, backend=options.get("backend"), pull_view=_pull_view)
    try:
        return _show(job, warnings, wanted, options)
    except KeyboardInterrupt:
        job.stop()  # it came before the view took interrupts
        raise
    except BrokenPipeError:
        # `tao ssd run PROGRAM | head`: a program ends with its pipe. A training is worth more than its output.
        if wanted.runs_program:
            job.stop()
        else:
            print(
                tr(f"Job {job.id} goes on. Follow it: tao attach {job.id}   End it: tao stop {job.id}"),
                file=sys.stderr,
            )
        raise


def _run_here(wanted: Command, options: Mapping[str, str]) -> int:
    """Run a command in this process, whose terminal a debugger can then use; its errors show their frames."""
    import traceback

    from taomagic.launcher.launch import launch_in_process
    from taomagic.launcher.options import check_in_process

    check_in_process(True, background="background" in options, backend=options.get("backend", ""))
    run, warnings = launch_in_process(wanted, backend=options.get("backend"))
    for warning in warnings:
        print(tr(f"Warning: {warning}"), file=sys.stderr)
    try:
        run.carry_out()
    except StageInterrupted:
        raise
    except TaoError:
        # What isn't a TaoError passes main and ends Python, which shows it, or wakes `python -m pdb`.
        traceback.print_exc()
        raise
    return 0


def _show(job: Job, warnings: Sequence[str], wanted: Command, options: Mapping[str, str]) -> int:
    """Show a job until it has ended, unless it shall run in the background; return the exit code."""
    for warning in warnings:
        print(tr(f"Warning: {warning}"), file=sys.stderr)
    if job.why and not wanted.runs_program:
        print(tr(f"Runs in: {job.where} ({job.why})."), file=sys.stderr)
    if options.get("background"):
        print(
            tr(
                f"Job {job.id} runs in the background. Follow it: tao attach {job.id}   End it: tao stop {job.id}"
            )
        )
        return 0
    if wanted.runs_program:
        from taomagic.view import bare

        ended_well = bare.copy(job, sys.stdout) is JobState.SUCCEEDED
        if not ended_well:
            _tell_reason(job.result())
        return exit_code(job.exit_code, ok=ended_well)
    from taomagic.view import text

    result = text.follow(job, stream=sys.stdout, raw="raw" in options)
    if not result.ok and not sys.stdout.isatty():
        # The view has told the cause. Where its output goes to a file, stderr tells it once more.
        _tell_reason(result)
    return exit_code(result.exit_code, ok=result.ok)


def _tell_reason(result: Result) -> None:
    print("\n".join([f"tao {result.label}: {result.reason}", *result.hints[:1]]), file=sys.stderr)


def _pull_view() -> PullView:
    from taomagic.view.pulling import TextPullView

    return TextPullView(sys.stderr)


def exit_code(code: int | None, *, ok: bool) -> int:
    """Return the exit code of `tao` for a command's: a signal n becomes 128 + n, a failure is never 0."""
    if ok:
        return 0
    if code is None or code == 0:
        return 1
    return 128 - code if code < 0 else code


def _help(wanted: Command) -> int:
    from taomagic.cli_help import print_help

    print_help(wanted)
    return 0


def _info(wanted: Command) -> int:
    from taomagic.launcher import info

    verbose, chosen = False, None
    words = iter(wanted.args)
    for word in words:
        name, _, value = word.partition("=")
        if word in {"--verbose", "-v"}:
            verbose = True
        elif name == "--release":
            value = value or next(words, "")
            if not value:
                raise UsageProblem(
                    "--release needs a value.", hint=f"Releases: {', '.join(catalog.release_names())}."
                )
            chosen = catalog.release(value)
        else:
            raise UsageProblem(
                f"`tao info` doesn't know {word}.", hint="tao info [--verbose] [--release NAME]"
            )
    print(info.info(chosen, verbose=verbose, deploy=wanted.group == "deploy"))
    for line in info.remarks(chosen, verbose=verbose):
        print(tr(line), file=sys.stderr)
    return 0


def _list(_wanted: Command) -> int:
    from taomagic.launcher import control
    from taomagic.launcher.context import Context

    print(control.table(control.listed_jobs(Context.current(need_mounts=False))))
    return 0


def _stop(wanted: Command) -> int:
    from taomagic.launcher import control
    from taomagic.launcher.context import Context

    if not wanted.args:
        # NVIDIA's launcher answers so, too, and calls it a success.
        print(tr("Nothing to stop was named: tao stop ID…, or tao stop --all. `tao list` shows the ids."))
        return 0
    stopped = control.stop_jobs(wanted.args, Context.current(need_mounts=False))
    states = {job.id: job.state for job in stopped}
    for job in stopped:
        print(f"{job.id}  {tr(states[job.id])}  {job.shown}")
    if not stopped:
        print(tr("No such job was running."))
    late = [job_id for job_id, state in states.items() if not state.finished]
    if late:
        print(
            tr(f"Not ended yet: {', '.join(late)}. Its engine is away, or a long log is still being copied."),
            file=sys.stderr,
        )
    return 1 if late else 0


def _attach(wanted: Command) -> int:
    from taomagic.launcher import control
    from taomagic.launcher.context import Context
    from taomagic.view import text

    job = control.latest_job(wanted.args, Context.current(need_mounts=False), word="attach")

    result = text.follow(job, stream=sys.stdout, stop_on_interrupt=False)
    return exit_code(result.exit_code, ok=result.ok)


def _logs(wanted: Command) -> int:
    from taomagic.launcher import control
    from taomagic.launcher.context import Context

    job = control.latest_job(wanted.args, Context.current(need_mounts=False), word="logs")
    if job.log_path.exists():
        with job.log_path.open(encoding="utf-8", errors="replace") as log:
            for line in log:
                sys.stdout.write(line)
    return 0


def _samples(wanted: Command) -> int:
    from taomagic.launcher import samples_command

    return samples_command.run(wanted.args, say=lambda text: print(tr(text)))


def _key(wanted: Command) -> int:
    from taomagic.launcher import key_command

    return key_command.run(wanted.args, say=lambda text: print(tr(text)))


def _device(wanted: Command) -> int:
    from taomagic.launcher import device_command

    return device_command.run(wanted.args, say=lambda text: print(tr(text)))


def _notebook(wanted: Command) -> int:
    from taomagic.notebook import command as notebook_command

    return notebook_command.run(wanted.args, say=lambda text: print(tr(text), flush=True))


def _setup(wanted: Command) -> int:
    from taomagic.notebook import setup_command

    return setup_command.run(wanted.args, say=lambda text: print(tr(text)))


_CONTROL: Mapping[str, Callable[[Command], int]] = {
    "help": _help,
    "info": _info,
    "list": _list,
    "stop": _stop,
    "attach": _attach,
    "logs": _logs,
    "samples": _samples,
    "key": _key,
    "device": _device,
    "notebook": _notebook,
    "setup": _setup,
}

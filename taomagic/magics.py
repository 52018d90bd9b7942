"""The magics: parse the line, call the launcher, show, return. What things mean is decided elsewhere."""

# IPython's decorators have no types.
# mypy: disable-error-code="no-untyped-call, untyped-decorator"
from __future__ import annotations

import contextlib
import os
from collections import ChainMap
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from IPython.core.magic import (
    Magics,
    cell_magic,
    line_cell_magic,
    line_magic,
    magics_class,
    needs_local_scope,
    no_var_expand,
)
from IPython.core.magic_arguments import argument, magic_arguments
from traitlets import Bool, Enum, default, observe

from taomagic.errors import StageFailed, StageInterrupted, TaoError, UsageProblem
from taomagic.launcher import catalog, control, records
from taomagic.launcher.backends import BACKENDS
from taomagic.launcher.cells import Names, split_cell, split_words
from taomagic.launcher.command import Command
from taomagic.launcher.context import Context
from taomagic.launcher.interrupts import interrupts_heard, interrupts_told
from taomagic.launcher.job import Job
from taomagic.launcher.launch import launch, launch_in_process
from taomagic.launcher.options import LANGUAGES, Options, take_options
from taomagic.launcher.result import Result
from taomagic.launcher.runners.base import Runner
from taomagic.magic_lines import ASK, overrides_of, parsed, read_stage, settings_of
from taomagic.project.environment import derive
from taomagic.view.texts import tr


@magics_class
class TaoMagics(Magics):
    """TAO commands in cells; ``%config TaoMagics`` shows and sets the options."""

    backend = Enum(
        ("", *BACKENDS), "", help="Where commands run; empty: what `%tao_env --backend` says."
    ).tag(config=True)
    raw = Bool(False, help="Show the log as it is, in place of progress and curves.").tag(config=True)
    shell_lines = Bool(
        help="Read `!tao …` lines as `%tao …`: the same panel, and a failure ends Run All. Lines with pipes, `;` and "
        "other things that need a shell stay shell lines. TAOMAGIC_SHELL_LINES=0 turns this off from the start."
    ).tag(config=True)
    in_process = Bool(
        False,
        help="Run the embedded engine in this kernel, as `%tao --in-process` does: sooner for short commands.",
    ).tag(config=True)
    panel = Enum(
        ("", "widget", "html", "text"),
        "",
        help="What shows a command: the live panel, an output that is redrawn, or a line per epoch; empty: what suits "
        "the front end. Also TAO_PANEL.",
    ).tag(config=True)
    lang = Enum(
        ("", *LANGUAGES), "", help="The language of our own words; empty: TAO_LANG, else that of the page."
    ).tag(config=True)

    shell: Any

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        #: Who starts commands, in place of the runner that the backend means; for tests.
        self.runner: Runner | None = None

    @default("shell_lines")
    def _shell_lines_from_environment(self) -> bool:
        return os.environ.get("TAOMAGIC_SHELL_LINES", "").strip().lower() not in {"0", "false", "no", "off"}

    @observe("panel", "lang")
    def _set_variable(self, change: Mapping[str, Any]) -> None:
        # Whatever draws reads these variables, in this process and in those that it starts.
        name = {"panel": "TAO_PANEL", "lang": "TAO_LANG"}[change["name"]]
        if change["new"]:
            os.environ[name] = change["new"]
        else:
            os.environ.pop(name, None)

    @no_var_expand
    @magic_arguments("tao_env")
    @argument(
        "net", nargs="?", metavar="NET", help="the network; guessed from the notebook's name and folder"
    )
    @argument(
        "--family",
        metavar="NAME",
        help="how paths are named: a (LOCAL_…), b (HOST_…: /data, /specs, /results), c (Colab: no container)",
    )
    @argument("--project-dir", metavar="DIR", help="the project, mounted as /workspace/tao-experiments")
    @argument("--data-dir", metavar="DIR", help="where the data sets lie")
    @argument(
        "--key",
        nargs="?",
        const=ASK,
        metavar="VALUE",
        help="the key of the model files; asked for if it stands alone",
    )
    @argument("--gpus", type=int, metavar="N", help="how many GPUs to use")
    @argument("--backend", metavar="NAME", help=f"where commands run: {', '.join(BACKENDS)}")
    @argument("--release", metavar="NAME", help="the TAO release whose containers run, e.g. 5.5.0")
    @argument("--lang", metavar="NAME", help="the language of our own words: zh, en")
    @argument("--show", action="store_true", help="only show what would be set")
    @argument(
        "--for-nvidia-notebooks",
        action="store_true",
        help="make this kernel run NVIDIA's notebooks as they are, as `tao setup notebooks` does for all; what their "
        "cells set wins",
    )
    @line_magic
    def tao_env(self, line: str) -> None:
        """Set the path variables of TAO notebooks and write the mount map.

        Everything follows from the notebook's folder. Variables that you have set yourself keep their value; the table
        says where each value comes from and what exists.
        """
        from taomagic.view.live import show_table
        from taomagic.view.tables import environment_table

        with interrupts_told("%tao_env"):
            given = parsed(self.tao_env, split_words(line, Names(self.shell.user_ns)))
            if given is None:
                return
            settings = settings_of(given)
            if not given.show and "TAO_LANG" in settings:
                self.lang = settings["TAO_LANG"]  # first of all: whatever is said next is said in it
            environment = derive(
                given.net,
                namespace=self.shell.user_ns,
                overrides=overrides_of(given),
                family=given.family,
                known=catalog.networks(),
            )
            if not given.show:
                os.environ.update(settings)
                theirs = given.for_nvidia_notebooks
                environment = environment.apply(os.environ, None if theirs else self.shell.user_ns)
                if theirs:
                    self._prepare_for_nvidia(environment.values())
            now = {**os.environ, **settings}
            backend = self.backend or now.get("TAOMAGIC_BACKEND") or "auto"
            table = environment_table(environment, backend=backend)
            if release := now.get("TAOMAGIC_RELEASE"):
                table = replace(table, notes=(*table.notes, f"TAO release: {release}"))
            show_table(self.shell, table)

    def _prepare_for_nvidia(self, values: Mapping[str, str]) -> None:
        """Make the kernel ready for a notebook whose cells set variables of the environment only."""
        from taomagic.notebook import kernel

        for name, value in values.items():
            # In `!` lines, a Python variable of an earlier %tao_env would hide what a cell sets.
            if self.shell.user_ns.get(name) == value:
                del self.shell.user_ns[name]
        kernel.prepare(self.shell)
        print(kernel.prepared_notice(here=True))

    @no_var_expand
    @needs_local_scope
    @line_cell_magic
    def tao(self, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None) -> Any:
        """Run TAO commands, in a container or in the embedded engine.

        ::

            %tao [OPTIONS] ssd train -e $SPECS_DIR/ssd_train.txt -r $USER_EXPERIMENT_DIR/run -k $KEY
            result = %tao ssd evaluate …
            %tao list | attach ID | stop ID | stop --all | logs ID | info | help ssd train | samples create DIR

            %%tao ssd train                  %%tao
              -e $SPECS_DIR/ssd_train.txt    ssd prune -m … -o …      # a stage per line that
              -r $USER_EXPERIMENT_DIR/run    ssd train -e …           # begins at the margin;
              -k $KEY                          -r … -k $KEY           # stops at the first failure

        ``$NAME`` and ``{expression}`` are taken from Python, then from the environment; an unset one is an error.
        The Tab key completes tasks, flags, specs, models and jobs.

        Options stand *before* the task, because TAO has flags of the same names:

        ``-o NAME``, ``--out NAME``
            assign the result to a variable: the job, if it fails or runs in the background; None, if it can't start
        ``--background``
            return at once with the job; may also stand at the very end. ``await job`` waits for its end, and
            ``await asyncio.gather(one, other)`` for the end of several
        ``--raw``
            show the log as it is
        ``--in-process``
            run the embedded engine in this very kernel, so that ``breakpoint()``, ``%debug`` and ``%pdb`` reach its
            frames; an error shows its traceback
        ``--backend auto|docker|process``
            where to run
        ``--release NAME``
            the TAO release whose container runs
        ``--volume SOURCE:DESTINATION``
            mount one folder more, for this command

        An interrupted cell (■) asks the command to stop, a second interrupt kills it. A stage that fails or is stopped
        raises, so that Run All ends there.

        Lines ``!tao …`` of notebooks written for NVIDIA's launcher are read as ``%tao …``, unless they need a shell (a
        pipe, ``;``, ``>``). ``%config TaoMagics.shell_lines = False`` leaves them to the shell.
        """
        return run_now(self._tao(line, cell or "", local_ns))

    async def tao_awaited(self, line: str, cell: str = "") -> Any:
        """Do what ``%tao`` does without blocking the kernel; see :mod:`taomagic.view.awaiting`."""
        return await self._tao(line, cell, awaited=True)

    async def _tao(
        self, line: str, cell: str, local_ns: Mapping[str, Any] | None = None, *, awaited: bool = False
    ) -> Any:
        with interrupts_told("%tao"):
            options, rest = take_options(line)
            self._assign(options.out, None)  # an older result must not pass for this command's
            options = replace(options, awaited=awaited)
            names = Names(ChainMap(dict(local_ns or {}), self.shell.user_ns))
            commands = [read_stage(stage, options, names) for stage in split_cell(rest, cell)]
            if len(commands) > 1 and any(chosen.background for _, chosen in commands):
                raise UsageProblem(
                    "Several stages can't run in the background, since each one needs the files of the one before.",
                    hint="Put them into cells of their own, or leave out --background.",
                )
            stages = [command.label for command, _ in commands]
            results = [await self._carry_out(*each, stages, i) for i, each in enumerate(commands)]
            return self._assign(options.out, results[0] if len(results) == 1 else results)

    async def _carry_out(self, command: Command, options: Options, stages: list[str], index: int) -> Any:
        """Do what one command of a cell says and return what it gives."""
        if command.action != "run":
            return await self._control(command, options)
        if command.wants_shell:
            known = catalog.subtasks(command.group, command.task)
            raise UsageProblem(
                f"`{command.label}` alone opens a shell, and a notebook has no terminal for it.",
                where=f"%tao {command.label}",
                hint=(f"Sub-tasks: {', '.join(known)}. " if known else "")
                + f"A program in the container: %tao {command.label} run ls -l. In a terminal: tao {command.label}",
            )
        if options.in_process or (self.in_process and not options.background):
            return self._run_here(command, options)
        job = self._launch(command, options)
        try:
            if options.background:
                from taomagic.view.live import show_in_background

                show_in_background(self.shell, job)
                return job
            return await self._watch(job, options, stages=stages, index=index)
        except KeyboardInterrupt:
            # Before or after the time in which the view passes interrupts on.
            job.request_stop()
            raise

    def _run_here(self, command: Command, options: Options) -> Result:
        """Run a command in this process, and let its error through with all that a debugger wants to see."""
        with interrupts_heard():
            run, warnings = launch_in_process(command, backend=options.backend or self.backend or None)
        for warning in warnings:
            print(tr(f"Note: {warning}"))
        try:
            result = run.carry_out()
        except BaseException as error:
            self._assign(options.out, run.job)
            if isinstance(error, TaoError) and not isinstance(error, StageInterrupted):
                # These are drawn without their frames elsewhere. Here the frames are what they are wanted for.
                vars(error)["_render_traceback_"] = partial(
                    self.shell.InteractiveTB.structured_traceback, type(error), error, error.__traceback__
                )
            raise
        print(tr(f"tao {command.label} succeeded after {control.span(result.seconds)}; job {run.job.id}"))
        return result

    def _launch(self, command: Command, options: Options) -> Job:
        """Check and start a command. An interrupt meanwhile leaves nothing running that nobody knows of."""
        from taomagic.cli import release_chosen
        from taomagic.view.pulling import choose_pull_view

        project = Context.current(need_mounts=False).project_dir
        before = set(records.job_folders(project))
        try:
            with interrupts_heard(), release_chosen(options.release):
                job, warnings = launch(
                    command,
                    backend=options.backend or self.backend or None,
                    runner=self.runner,
                    pull_view=lambda: choose_pull_view(self.shell),
                )
        except KeyboardInterrupt:
            for folder in set(records.job_folders(project)) - before:
                with contextlib.suppress(TaoError):  # half a record: nothing runs yet
                    job = Job(folder)
                    if job.shown == command.masked():
                        job.request_stop()
            raise
        for warning in warnings:
            print(tr(f"Note: {warning}"))
        return job

    async def _watch(
        self,
        job: Job,
        options: Options,
        *,
        stages: Sequence[str] = (),
        index: int = 0,
        stop_on_interrupt: bool = True,
    ) -> Result:
        """Show a job until it has ended; raise unless it ended well."""
        from taomagic.view.live import choose_view
        from taomagic.view.waiting import watch, watch_async

        try:
            view = choose_view(
                self.shell,
                job,
                raw=options.raw or self.raw,
                stages=stages,
                index=index,
                foreground=stop_on_interrupt,
                answers=options.awaited,
            )
            if options.awaited:
                result = await watch_async(job, view, stop_on_interrupt=stop_on_interrupt)
            else:
                result = watch(job, view, stop_on_interrupt=stop_on_interrupt)
            result.raise_for_state()
        except StageFailed:
            self._assign(options.out, job)
            raise
        return result

    def _assign(self, name: str, value: Any) -> Any:
        if name:
            self.shell.user_ns[name] = value
        return value

    async def _control(self, command: Command, options: Options) -> Any:
        """Carry out a control word."""
        if command.action == "attach":
            job = control.latest_job(command.args, Context.current(need_mounts=False), word="attach")
            return await self._watch(job, options, stop_on_interrupt=False)
        with interrupts_heard():
            self._answer(command, options)
        return None

    def _answer(self, command: Command, options: Options) -> None:
        """Show what a control word asks for."""
        from taomagic.cli import carry_out, release_chosen
        from taomagic.view.live import show_table
        from taomagic.view.tables import job_table

        context = Context.current(need_mounts=False)
        match command.action:
            case "list":
                show_table(self.shell, job_table(control.listed_jobs(context)))
            case "stop":
                stopped = control.stop_jobs(command.args, context)
                show_table(self.shell, job_table(stopped, title="Stopped jobs"))
            case _:
                with release_chosen(options.release):
                    carry_out(command)

    @no_var_expand
    @magic_arguments("%tao_spec")
    @argument("name", metavar="NAME", help="the file's name in LOCAL_SPECS_DIR")
    @cell_magic
    def tao_spec(self, line: str, cell: str) -> None:
        """Write the cell as an experiment file, after checking it; shows what has changed.

        The text is taken as it stands: nothing is expanded in it.
        """
        from taomagic.launcher.spec_files import save_spec

        names = Names(self.shell.user_ns)
        given = parsed(self.tao_spec, split_words(line, names))
        if given is None:
            return
        saved = save_spec(Path(names.lookup("LOCAL_SPECS_DIR")), given.name, cell, shown_as=given.name)
        container = Context.current().paths.to_container(saved.path)
        print(
            tr(
                f"{'Wrote' if saved.created else 'Changed' if saved.diff else 'Nothing changed in'} {saved.path}"
            )
        )
        print(tr(f"In commands: {container}"))
        if not saved.checked:
            print(tr("Not checked: the fields of this network's files aren't known here."))
        print("\n".join(saved.diff))


def run_now(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits for the event loop to its end, and return its value."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    work.close()
    raise RuntimeError("A magic that blocks can't wait for the event loop.")

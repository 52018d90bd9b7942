"""The magics: parse the line, call the launcher, show, return. What things mean is decided elsewhere."""

# IPython's decorators have no types.
# mypy: disable-error-code="no-untyped-call, untyped-decorator"
from __future__ import annotations

import getpass
import os
import re
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from IPython.core.error import StdinNotImplementedError
from IPython.core.magic import Magics, cell_magic, line_cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments
from traitlets import Bool, Enum

from taomagic.errors import EnvironmentProblem, StageFailed, TaoError, UsageProblem
from taomagic.launcher import control
from taomagic.launcher.cells import Names, split_cell, split_words
from taomagic.launcher.command import Command, parse_command
from taomagic.launcher.context import Context
from taomagic.launcher.job import Job, Result
from taomagic.launcher.launch import launch
from taomagic.launcher.runners.base import Runner
from taomagic.project.environment import Environment, derive

BACKENDS = ("auto", "docker", "process")
#: What ``--key`` holds when it stands alone.
ASK = "\0ask"


@dataclass(frozen=True)
class Options:
    """Our own options on a ``%tao`` line, which stand before the task."""

    out: str = ""
    background: bool = False
    raw: bool = False
    backend: str = ""
    #: Whether the cell awaits the command; said by the cell's form, not on the line.
    awaited: bool = False


@magics_class
class TaoMagics(Magics):
    """TAO commands in cells; ``%config TaoMagics`` shows and sets the options."""

    backend = Enum(
        ("", *BACKENDS), "", help="Where commands run; empty: what `%tao_env --backend` says."
    ).tag(config=True)
    raw = Bool(False, help="Show the log as it is, in place of progress and curves.").tag(config=True)

    shell: Any

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        #: Who starts commands, in place of the runner that the backend means; for tests.
        self.runner: Runner | None = None

    @no_var_expand
    @magic_arguments("tao_env")
    @argument(
        "net", nargs="?", metavar="NET", help="the network; guessed from the notebook's name and folder"
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
    @argument("--backend", choices=BACKENDS, help="where commands run")
    @argument("--show", action="store_true", help="only show what would be set")
    @line_magic
    def tao_env(self, line: str) -> None:
        """Set the path variables of TAO notebooks and write the mount map.

        Everything follows from the notebook's folder. Variables that you have set yourself keep their value; the table
        says where each value comes from and what exists.
        """
        from taomagic.view.live import show_table
        from taomagic.view.tables import environment_table

        given = self.tao_env.parser.parse_args(split_words(line, Names(self.shell.user_ns)))
        environment = derive(given.net, namespace=self.shell.user_ns, overrides=_overrides(given))
        if not given.show:
            environment = self._apply(environment, given.backend)
        backend = self.backend or given.backend or os.environ.get("TAOMAGIC_BACKEND") or "auto"
        show_table(self.shell, environment_table(environment, backend=backend))

    def _apply(self, environment: Environment, backend: str | None) -> Environment:
        if backend:
            os.environ["TAOMAGIC_BACKEND"] = backend
        return environment.apply(os.environ, self.shell.user_ns)

    @no_var_expand
    @line_cell_magic
    def tao(self, line: str, cell: str | None = None) -> Any:
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

        Options stand *before* the task, because TAO has flags of the same names:

        ``-o NAME``, ``--out NAME``
            assign the result to a variable (the job, if it fails or runs in the background)
        ``--background``
            return at once with the job; may also stand at the very end
        ``--raw``
            show the log as it is
        ``--backend auto|docker|process``
            where to run

        An interrupted cell (■) asks the command to stop, a second interrupt kills it. A stage that fails or is stopped
        raises, so that Run All ends there.
        """
        return run_now(self._tao(line, cell or ""))

    async def tao_awaited(self, line: str, cell: str = "") -> Any:
        """Do what ``%tao`` does without blocking the kernel; see :mod:`taomagic.view.awaiting`."""
        return await self._tao(line, cell, awaited=True)

    async def _tao(self, line: str, cell: str, *, awaited: bool = False) -> Any:
        options, rest = take_options(line)
        options = replace(options, awaited=awaited)
        names = Names(self.shell.user_ns)
        words = [split_words(stage.text, names) for stage in split_cell(rest, cell)]
        if any(stage[-1:] == ["--background"] for stage in words):
            options = replace(options, background=True)
            words = [stage[:-1] if stage[-1] == "--background" else stage for stage in words]
        commands = [parse_command(stage) for stage in words]
        if len(commands) > 1 and options.background:
            raise UsageProblem(
                "Several stages can't run in the background, since each one needs the files of the one before.",
                hint="Put them into cells of their own, or leave out --background.",
            )
        stages = [command.label for command in commands]
        results = [await self._carry_out(each, options, stages, i) for i, each in enumerate(commands)]
        value = results[0] if len(results) == 1 else results
        return self._assign(options.out, value)

    async def _carry_out(self, command: Command, options: Options, stages: list[str], index: int) -> Any:
        """Do what one command of a cell says and return what it gives."""
        if command.action != "run":
            return await self._control(command, options)
        backend = options.backend or self.backend or None
        job, warnings = launch(command, backend=backend, runner=self.runner)
        for warning in warnings:
            print(f"Note: {warning}")
        if options.background:
            from taomagic.view.live import show_in_background

            show_in_background(self.shell, job)
            return job
        return await self._watch(job, options, stages=stages, index=index)

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
        from taomagic.view.live import show_table
        from taomagic.view.tables import job_table

        context = Context.current(need_mounts=False)
        match command.action:
            case "list":
                show_table(self.shell, job_table(control.listed_jobs(context)))
            case "stop":
                show_table(
                    self.shell, job_table(control.stop_jobs(command.args, context), title="Stopped jobs")
                )
            case "attach":
                job = control.latest_job(command.args, context, word="attach")
                return await self._watch(job, options, stop_on_interrupt=False)
            case _:
                from taomagic.cli import carry_out

                carry_out(command)
        return None

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
        given = self.tao_spec.parser.parse_args(split_words(line, names))
        saved = save_spec(Path(names.lookup("LOCAL_SPECS_DIR")), given.name, cell, shown_as=given.name)
        container = Context.current().paths.to_container(saved.path)
        print(
            f"{'Wrote' if saved.created else 'Changed' if saved.diff else 'Nothing changed in'} {saved.path}"
        )
        print(f"In commands: {container}")
        print("\n".join(saved.diff))


def run_now(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits for the event loop to its end, and return its value."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    work.close()
    raise RuntimeError("A magic that blocks can't wait for the event loop.")


def take_options(line: str) -> tuple[Options, str]:
    """Split our own options off the front of a line.

    Returns
    -------
    Options
        What they say.
    str
        The rest, as it was written.

    Raises
    ------
    UsageProblem
        An option has no value, or one that isn't allowed.
    """
    found: dict[str, Any] = {}
    while match := _OPTION.match(line):
        name, value, line = match["flag"] or match["named"], match["value"], line[match.end() :]
        found[_FIELDS[name]] = True if match["flag"] else value
    if "out" in found and not str(found["out"]).isidentifier():
        raise UsageProblem(f"{found['out']!r} can't be a variable.", hint="%tao -o result ssd train …")
    if found.get("backend", "auto") not in BACKENDS:
        raise UsageProblem(
            f"There is no backend {found['backend']!r}.", hint=f"Backends: {', '.join(BACKENDS)}."
        )
    if line.lstrip().startswith("-") and not line.lstrip().startswith(("-h", "--help")):
        # Without its value, which may be a key: --key=…, -k….
        flag = line.split()[0].partition("=")[0]
        flag = flag if flag.startswith("--") else flag[:2]
        if flag in _FIELDS:
            raise UsageProblem(f"{flag} needs a value.", hint=f"%tao {flag} VALUE ssd train …")
        raise UsageProblem(
            f"{flag} isn't an option of %tao.",
            hint="Before the task: -o NAME, --background, --raw, --backend NAME. TAO's own flags come behind it.",
        )
    return Options(**found), line


_OPTION = re.compile(
    r"\s*(?:(?P<flag>--background|--raw)(?!\S)|(?P<named>-o|--out|--backend)(?:=|\s+)(?P<value>[^\s-]\S*))"
)
_FIELDS = {"--background": "background", "--raw": "raw", "-o": "out", "--out": "out", "--backend": "backend"}


def _overrides(given: Any) -> dict[str, str]:
    """Return the variables that the arguments of ``%tao_env`` set."""
    key = _ask_key() if given.key == ASK else given.key
    values = {
        "LOCAL_PROJECT_DIR": given.project_dir,
        "LOCAL_DATA_DIR": given.data_dir,
        "KEY": key,
        "NUM_GPUS": given.gpus,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def _ask_key() -> str:
    """Ask for the key without echo, in a terminal or in the notebook's input box."""
    try:
        return getpass.getpass("Key of the model files: ")
    except (EOFError, StdinNotImplementedError):
        raise EnvironmentProblem(
            "The key can't be asked for here.",
            hint="Set it beforehand: %env KEY=…, or write it behind --key.",
        ) from None


def load(shell: Any) -> None:
    """Register the magics, and say which jobs of this project still run."""
    from taomagic.view.awaiting import Awaiting

    unload(shell)
    shell.register_magics(TaoMagics(shell))
    Awaiting(shell).install()
    _tell_running()


def _tell_running() -> None:
    try:
        context = Context.current(need_mounts=False)
        jobs = [job for job in control.all_jobs(context, everywhere=False) if not job.state.finished]
    except TaoError:
        return  # a broken mount map is told by the command that needs it
    if jobs:
        said = "; ".join(f"{job.command.label} ({job.id})" for job in jobs)
        print(
            f"{len(jobs)} job{'s' if len(jobs) > 1 else ''} still running: {said}. See %tao attach ID, %tao list."
        )


def unload(shell: Any) -> None:
    """Take the magics away; harmless where they are not loaded."""
    from taomagic.view.awaiting import Awaiting

    Awaiting.remove(shell)
    manager = shell.magics_manager
    manager.registry.pop(TaoMagics.__name__, None)
    for kind, names in TaoMagics.magics.items():
        for name in names:
            manager.magics[kind].pop(name, None)
    shell.configurables[:] = [each for each in shell.configurables if not isinstance(each, TaoMagics)]

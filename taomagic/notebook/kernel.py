"""What a kernel needs so that NVIDIA's notebooks run in it unchanged: in JupyterLab, and in ``tao notebook run``.

- The extension is loaded, so that ``!tao`` lines become panels; ``tao``, ``tao-deploy`` and ``tlt`` are on PATH.
- Names that the notebooks leave to the reader are defined where a cell uses them, and folders that they ship with
  become the notebook's folder (:mod:`taomagic.notebook.fillings`). The cell's output says so.
- Shell lines that would work on ``/`` because a variable is unset don't run (:mod:`taomagic.notebook.shell_guard`).
- A map that a cell writes to ``~/.tao_mounts.json`` is this notebook's (:mod:`taomagic.notebook.own_map`).
"""

# IPython's classes have no types.
# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from IPython.utils.text import DollarFormatter

from taomagic.errors import translate
from taomagic.notebook import advice, colab, launchers, shell_guard
from taomagic.notebook.fillings import Fillings, undefined_names
from taomagic.notebook.own_map import Copied, Redirected
from taomagic.project.mounts import HOME_MAP_VARIABLE

#: What a shell says of a line that it may not run.
REFUSED = 126
_EXTENSION = "taomagic"
#: Cell magics whose bodies a shell runs; ``%%script`` where its program is one.
_SHELLS = ("bash", "sh", "script")
#: Those of the Bourne shell's family.
SHELL_PROGRAMS = frozenset({"bash", "sh", "dash", "zsh", "ksh"})


def prepare(shell: Any, names: Mapping[str, str] | None = None, *, folder: Path | None = None) -> Help:
    """Make a kernel ready for NVIDIA's notebooks; a second time changes nothing.

    Parameters
    ----------
    shell
        The InteractiveShell.
    names
        What notebooks use and don't define; by default :func:`taomagic.notebook.fillings.undefined_names`.
    folder
        The notebook's; the working folder by default.

    Returns
    -------
    Help
        What is at work in the shell now.
    """
    for hook in shell.ast_transformers:
        if isinstance(hook, Fillings) and isinstance(hook.owner, Help):
            return hook.owner
    return Help(shell, names, folder or Path.cwd()).install()


def prepared_notice(*, here: bool = False) -> str:
    """Return what is said once in a kernel that was prepared, by itself or because it was asked for ``here``."""
    return translate(
        "This kernel runs NVIDIA's notebooks as they are: `!tao` lines show panels, and what is filled in is told in "
        "its cell. A restart of the kernel ends it."
        if here
        else "taomagic: this looks like a notebook of NVIDIA's. `!tao` lines show panels, and what is filled in is "
        "told in its cell. To undo it: tao setup notebooks --undo"
    )


class Help:
    """What helps the cells of a notebook in one shell.

    Parameters
    ----------
    shell, names, folder
        As for :func:`prepare`.
    """

    def __init__(self, shell: Any, names: Mapping[str, str] | None, folder: Path) -> None:
        self._shell, self.folder = shell, folder
        self._names = undefined_names(folder) if names is None else names
        self._notices: dict[str, None] = {}
        # Told when the cell runs: until then nothing is its output.
        self._pending: dict[str, None] = {}
        session = os.environ.get("JPY_SESSION_NAME", "")
        name = Path(session).stem if session.endswith(".ipynb") else f"kernel-{os.getpid()}"
        self._map = Copied(folder, name, shell.user_ns, self.tell)

    def install(self) -> Help:
        """Begin; what was installed before in this shell ends."""
        shell = self._shell
        if "TaoMagics" not in shell.magics_manager.registry:
            shell.extension_manager.load_extension(_EXTENSION)
        programs = str(self.programs())
        path = os.environ.get("PATH", os.defpath)
        if programs not in path.split(os.pathsep):
            os.environ["PATH"] = os.pathsep.join([programs, path])
        shell.system, shell.getoutput = self.system, self.getoutput
        shell.input_transformers_cleanup.append(_Colab(self.folder, self._pending))
        for name in _SHELLS:
            if plain := shell.find_cell_magic(name):
                shell.register_magic_function(self._guarded(name, plain), "cell", name)
        own = os.environ.get(HOME_MAP_VARIABLE)
        shell.ast_transformers.append(
            Fillings(shell.user_ns, self._names, self.folder, self.tell, owner=self)
        )
        if own:
            shell.ast_transformers.append(Redirected(Path(own)))
        shell.events.register("pre_run_cell", self.before_cell)
        shell.events.register("post_run_cell", self.after_cell)
        return self

    def programs(self) -> Path:
        """Return the folder of the launchers that cells find on PATH."""
        return launchers.of_this_process()

    def tell(self, notice: str) -> None:
        """Show a notice in the cell's output, once in each cell."""
        if notice not in self._notices:
            self._notices[notice] = None
            print(translate(notice))

    def before_cell(self, info: Any) -> None:
        """See what a cell is about to do."""
        self._notices.clear()
        for notice in self._pending:
            self.tell(notice)
        self._pending.clear()
        self._map.before_cell(info.raw_cell or "")

    def after_cell(self, _result: Any) -> None:
        """See what a cell has done."""
        self._map.after_cell()

    def about_to_run(self, expanded: str) -> None:
        """Do what a shell line needs, before it runs."""

    def ran(self, cmd: str, code: int, seconds: float) -> None:
        """Take note of a shell line that has ended."""

    def refused(self, cmd: str, why: str) -> None:
        """Take note of a shell line that wasn't run."""

    def system(self, cmd: str) -> None:
        """Do what ``shell.system`` does (``!ls``), unless the line is dangerous."""
        shell = self._shell
        values = _Values(shell, cmd, sys._getframe(1).f_locals)
        if self._is_refused(cmd, values):
            return
        expanded = shell.var_expand(cmd, depth=1)
        began = time.monotonic()
        if why := colab.left_out(expanded, os.environ):
            self.tell(why)
            expanded = "true"
        self.about_to_run(expanded)
        type(shell).system(_Expanded(shell), expanded)
        code = shell.user_ns.get("_exit_code") or 0
        program, name = shell_guard.missing_address(cmd, values.get)
        if program and (code or "if " not in cmd):
            print(translate(advice.on_missing_address(program, name)), file=sys.stderr)
        self.ran(cmd, code, time.monotonic() - began)

    def getoutput(self, cmd: str, split: bool = True, depth: int = 0, before: str = "") -> Any:
        """Do what ``shell.getoutput`` does (``x = !ls``), after other commands, unless the line is dangerous."""
        plain = type(self._shell).getoutput
        if self._is_refused(cmd, _Values(self._shell, cmd, sys._getframe(depth + 1).f_locals)):
            return plain(self._shell, "true", split=split)
        return plain(self._shell, before + cmd, split=split, depth=depth + 1)

    def _guarded(self, name: str, plain: Any) -> Any:
        """Return a cell magic that runs a script unless that is dangerous."""

        def script(line: str, cell: str) -> Any:
            words = [Path(word).name for word in line.split() if not word.startswith("-")]
            # Scripts see the environment only.
            if (name != "script" or SHELL_PROGRAMS.intersection(words[:1])) and self._is_refused(
                cell, os.environ
            ):
                return None
            return plain(line, cell)

        script.__doc__ = plain.__doc__
        return script

    def _is_refused(self, cmd: str, values: Mapping[str, str] | _Values) -> bool:
        why = shell_guard.refusal(cmd, values.get)
        if why:
            print(translate(f"Stopped before it ran: {why}"), file=sys.stderr)
            self._shell.user_ns["_exit_code"] = REFUSED
            self.refused(cmd, why)
        return bool(why)


class _Colab:
    """Gives the folders of a notebook for Colab a place here; one of IPython's transformers of a cell's text."""

    #: IPython doesn't call it for what is only being typed.
    has_side_effects = True

    def __init__(self, folder: Path, notices: dict[str, None]) -> None:
        self._folder, self._notices = folder, notices

    def __call__(self, lines: list[str]) -> list[str]:
        text, notices = colab.redirected("".join(lines), self._folder, os.environ)
        self._notices.update(dict.fromkeys(notices))
        return text.splitlines(keepends=True) if notices else lines


class _Values:
    """What variables of a shell line are: Python's, where IPython puts them in, else the environment's."""

    def __init__(self, shell: Any, cmd: str, local: Mapping[str, Any]) -> None:
        names = {**shell.user_ns, **local}
        try:
            used = DollarFormatter().vformat(cmd, args=[], kwargs=names) != cmd
        except Exception:  # anything may stand in braces
            used = False
        # IPython puts in either all names or, where it doesn't know one, none.
        self._names: Mapping[str, Any] = names if used else {}

    def get(self, name: str) -> str | None:
        """Return the value of a variable, ``None`` where it is unset."""
        return str(self._names[name]) if name in self._names else os.environ.get(name)


class _Expanded:
    """A shell whose lines are expanded already: their frame is out of its reach."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shell, name)

    def var_expand(self, cmd: str, depth: int = 0) -> str:  # noqa: ARG002 - as in IPython
        """Return the line as it is."""
        return cmd

"""What ``%load_ext taomagic`` puts into IPython, and ``%unload_ext`` takes away again."""

from __future__ import annotations

from typing import Any

from taomagic import hooks
from taomagic.errors import TaoError
from taomagic.launcher import control
from taomagic.launcher.context import Context
from taomagic.magics import TaoMagics
from taomagic.view import texts
from taomagic.view.texts import tr


def load(shell: Any) -> None:
    """Register the magics, and say which jobs of this project still run."""
    from taomagic.view.awaiting import Awaiting

    unload(shell)
    texts.install(terminal=getattr(shell, "kernel", None) is None)
    magics = TaoMagics(shell)
    shell.register_magics(magics)
    hooks.install(shell, shell_lines=lambda: bool(magics.shell_lines))
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
            tr(
                f"{len(jobs)} job{'s' if len(jobs) > 1 else ''} still running: {said}. See %tao attach ID, %tao list."
            )
        )


def unload(shell: Any) -> None:
    """Take the magics away, and what was hooked in; harmless where they are not loaded."""
    from taomagic.view.awaiting import Awaiting

    Awaiting.remove(shell)
    hooks.remove(shell)
    manager = shell.magics_manager
    manager.registry.pop(TaoMagics.__name__, None)
    for kind, names in TaoMagics.magics.items():
        for name in names:
            manager.magics[kind].pop(name, None)
    shell.configurables[:] = [each for each in shell.configurables if not isinstance(each, TaoMagics)]

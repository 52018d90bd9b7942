"""One of several processes of a training: how it keeps quiet, and how it tells its starter what went wrong.

Processes are numbered by torchrun's environment variables. Only the main one (rank 0) prints and writes; whoever
started them all prints the one error that counts, and the ``Execution status``. Nothing here needs torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

#: Process number of our launcher; unset where torchrun itself started the processes.
LAUNCHER_VARIABLE = "TAOMAGIC_LAUNCHER"
#: torchrun's name of the file for an error.
_REPORT_VARIABLE = "TORCHELASTIC_ERROR_FILE"
#: How often a process looks whether its launcher is still there.
_LOOK_S = 0.5
#: A process that failed waits for this long, so that the main one can write down what it knows before all are ended.
_GRACE_S = 4.0


def is_member() -> bool:
    """Whether this process is one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def rank() -> int:
    """Return the number of this process, from 0; 0 where it is the only one."""
    return int(os.environ["RANK"]) if is_member() else 0


def has_launcher() -> bool:
    """Whether our launcher started this process; it then reports in its place."""
    return is_member() and LAUNCHER_VARIABLE in os.environ


def settle() -> None:
    """Become a quiet member, which doesn't outlive its launcher; to be called before anything is printed."""
    if not is_member():
        return
    if rank() > 0:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        # Without a folder, nor one from the launcher, nothing is written to status.json.
        os.environ.pop("TAOMAGIC_STATUS_DIR", None)
    if has_launcher():
        threading.Thread(target=_end_with_launcher, name="taomagic-launcher", daemon=True).start()


def _end_with_launcher() -> None:
    launcher = int(os.environ[LAUNCHER_VARIABLE])
    while os.getppid() == launcher:
        time.sleep(_LOOK_S)
    os._exit(1)


def report(message: str, *, where: str = "", hint: str = "", lost_others: bool = False) -> None:
    """Tell the launcher why this process ends.

    Parameters
    ----------
    message, where, hint
        As in :class:`taomagic.errors.TaoError`.
    lost_others
        Whether it only ends because another one has ended.
    """
    path = os.environ.get(_REPORT_VARIABLE)
    if path:
        told = {"message": message, "extraInfo": {"timestamp": str(int(time.time()))}}
        content = {
            "message": told,
            "where": where,
            "hint": hint,
            "lost_others": lost_others,
            "time": time.time(),
        }
        with contextlib.suppress(OSError):
            Path(path).write_text(json.dumps(content), encoding="utf-8")
    if rank() > 0:
        if threading.current_thread() is threading.main_thread():
            # All is said; whoever wants this process to end now may have it at once.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        time.sleep(_GRACE_S)


def lost_others(error: BaseException) -> bool:
    """Whether an error says that another process can no longer be reached."""
    if not is_member() or not isinstance(error, RuntimeError):
        return False
    text = str(error)
    kind = type(error).__name__
    return kind.startswith("Dist") or "gloo" in text.lower() or "nccl" in text.lower()

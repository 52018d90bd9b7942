"""Start a training in several processes, watch over them, and end with one error, whichever of them failed.

The processes are started by the layer under torchrun, with torchrun's environment variables, so ``torchrun
--nproc-per-node 2 -m taomagic.engine ssd train …`` does as well, on several machines too.

::

    engine (launcher) ──starts──> rank 0: prints, writes files
            │                 └─> rank 1…: silent
            └── a signal to the launcher goes to all; the end of one ends all; no rank outlives the launcher
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, but not in __all__
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, PContext, start_processes
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from taomagic.engine.cores import usable_cores
from taomagic.engine.device import has_cuda
from taomagic.engine.signals import Stopped
from taomagic.engine.training.members import LAUNCHER_VARIABLE
from taomagic.errors import StageFailed, UsageProblem

logger = logging.getLogger(__name__)

_HOST = "127.0.0.1"
#: Which signals torchrun's layer takes over.
_SIGNALS_VARIABLE = "TORCHELASTIC_SIGNALS_TO_HANDLE"
#: How often the processes are looked at.
_LOOK_S = 0.1
#: How long they may take to stop before they are killed.
_STOP_S = 15


def process_count(args: argparse.Namespace) -> int:
    """Return how many processes a command asks for: ``--num_processes``, else one for each GPU."""
    return int(args.gpus if args.num_processes == -1 else args.num_processes)


def launch(args: argparse.Namespace, words: Sequence[str]) -> None:
    """Run a training in the processes it asks for.

    Parameters
    ----------
    args
        The parsed command.
    words
        The command's words, which each process gets.

    Raises
    ------
    StageFailed
        One of them failed, with what it said.
    UsageProblem
        There are fewer GPUs.
    """
    count = process_count(args)
    _check_gpus(args, count)
    with tempfile.TemporaryDirectory(prefix="taomagic-ranks-") as folder, _own_manners():
        # This process keeps the address book, so that no port can be taken in between.
        store = TCPStore(_HOST, 0, is_master=True, wait_for_workers=False)
        context = start_processes(
            name="train",
            entrypoint=sys.executable,
            args=dict.fromkeys(range(count), ("-u", "-m", "taomagic.engine", *words)),
            envs={rank: _variables(rank, count, store.port) for rank in range(count)},
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        _watch(context, count)


@contextmanager
def _own_manners() -> Iterator[None]:
    """Keep torchrun's layer from replacing our handlers of signals, and from logging what is reported anyway."""
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    before = os.environ.get(_SIGNALS_VARIABLE)
    os.environ[_SIGNALS_VARIABLE] = ""
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SIGNALS_VARIABLE]
        else:
            os.environ[_SIGNALS_VARIABLE] = before


def _watch(context: PContext, count: int) -> None:
    """Wait until all processes have ended, or one has failed, or somebody wants them to stop."""
    try:
        # Rank 0 and the others end one after another; a failure ends all at once.
        result = None
        while result is None:
            result = context.wait(timeout=1.0, period=_LOOK_S)
    except BaseException as error:
        number = signal.Signals(error.signum) if isinstance(error, Stopped) else signal.SIGTERM
        context.close(number, timeout=_STOP_S)
        raise
    if result.is_failed():
        raise _failure(list(result.failures.values()), count)


def _failure(failures: Sequence[ProcessFailure], count: int) -> StageFailed:
    """Return the error that tells why a training ended: not those of processes that only lost the others."""
    reports = [f for f in failures if "time" in f.error_file_data]
    causes = [f for f in reports if not f.error_file_data["lost_others"]]
    killed = [f for f in failures if f.exitcode < 0]
    if causes or not killed:
        # What all of them found wrong is told without a number.
        first = min(causes or reports or failures, key=lambda f: f.local_rank)
        data = first.error_file_data
        told = data.get("message")
        message = told["message"] if isinstance(told, dict) else f"ended with exit code {first.exitcode}"
        where, hint = data.get("where", ""), data.get("hint", "")
        if first.local_rank > 0 or first not in reports:
            message = f"process {first.local_rank + 1} of {count}: {message}"
        return StageFailed(message, where=where, hint=hint)
    first = killed[0]
    return StageFailed(
        f"process {first.local_rank + 1} of {count} was ended by {first.signal_name()}",
        hint="If nobody did that, the memory was full: lower batch_size_per_gpu, or take fewer processes. "
        "The same command goes on after the last checkpoint.",
    )


def _check_gpus(args: argparse.Namespace, count: int) -> None:
    if not has_cuda():
        cores = usable_cores()
        if count > cores:
            logger.warning(
                "%d processes share %d cores; that is slower than %d processes.", count, cores, cores
            )
        return
    available = torch.cuda.device_count()
    if count > available:
        raise UsageProblem(
            f"{count} processes need {count} GPUs; this machine has {available}",
            where="--num_processes" if args.num_processes != -1 else "--gpus",
            hint=f"Use at most {available}.",
        )
    if args.gpu_index is not None and len(args.gpu_index) != count:
        raise UsageProblem(
            f"{count} processes and {len(args.gpu_index)} GPUs don't go together",
            where="--gpu_index",
            hint="Each process needs a GPU of its own: leave --num_processes out.",
        )


def _variables(rank: int, count: int, port: int) -> dict[str, str]:
    """Return torchrun's environment variables for one process on this machine."""
    variables = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": _HOST,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        LAUNCHER_VARIABLE: str(os.getpid()),
        # A process whose peer is gone says so in C++ as well; what counts is said once, by this process.
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "FATAL"),
    }
    if sys.platform == "linux":
        # The host's name may lead to an interface that is down; all processes are here.
        variables["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    if not has_cuda():
        threads = str(max(1, torch.get_num_threads() // count))
        variables |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    return variables

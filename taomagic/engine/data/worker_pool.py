"""Processes that prepare batches ahead, seen from the training."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

import numpy as np

from taomagic.engine.data.images import Pixels
from taomagic.engine.data.samples import BatchPlan, Place, Preparation
from taomagic.engine.data.shared_store import read_all, shared_files, unnamed_file
from taomagic.engine.data.worker import Answer, Setup, Task
from taomagic.errors import EnvironmentProblem

#: Boxes and classes of one image.
L = TypeVar("L")

_CHANNELS = 3
#: Seconds that a worker gets to end by itself; it looks up after each batch.
_PATIENCE_S = 2.0
#: Answers that may wait in the socket of one worker. More would fill it, and then both sides would wait.
_MOST_WAITING = 32


#: What a worker runs. Not ``-m``: the messages' classes must have the same module on both sides.
_PROGRAM = "from taomagic.engine.data.worker import main; main()"


@dataclass(slots=True)
class _Worker:
    """A process, the socket to it, and the tickets it works on, oldest first."""

    process: subprocess.Popen[bytes]
    connection: Connection
    tickets: deque[int] = field(default_factory=deque)


class WorkerPool(Generic[L]):
    """Prepares batches in processes of their own; each image is decoded once for all of them.

    They are plain child processes with a socket each: no semaphores, no files with names, no fork of a process that
    has threads or a GPU context. When this process ends, however it does, they end too.

    Parameters
    ----------
    samples
        What to prepare.
    count
        Number of processes, at least 1.
    memory_budget
        Bytes of memory for decoded images; by default chosen by the machine's.

    Raises
    ------
    EnvironmentProblem
        A process can't be started.
    """

    def __init__(self, samples: Preparation[L], count: int, memory_budget: int | None = None) -> None:
        self._samples = samples
        self._shape = *samples.input_size, _CHANNELS
        # Room for float32; a file takes memory only where it is written, so bytes need a quarter of it.
        self._stride = int(np.prod(self._shape)) * np.dtype(np.float32).itemsize
        self._next_ticket = 0
        self._tasks: dict[int, Task] = {}
        self._answers: dict[int, Answer] = {}
        self._forgotten: set[int] = set()
        #: Places for finished batches, all of one size.
        self._slot_bytes = 0
        self._free: list[int] = []
        self._slots = 0
        self._lock = threading.Lock()
        sizes = samples.sizes()
        with ExitStack() as undo:
            layout, memory, disk = shared_files(sizes, memory_budget)
            self._pixels = unnamed_file("taomagic-batches", in_memory=True)
            for file in (memory, disk):  # only the workers read and write these
                undo.callback(os.close, file)
            self._workers: list[_Worker] = []
            self._end = weakref.finalize(self, _end, self._workers, self._pixels)
            for _ in range(count):
                self._workers.append(_start((memory, disk, self._pixels)))
            setup = pickle.dumps(Setup(samples, layout, memory, disk, self._pixels))
            for worker in self._workers:
                _send(worker, setup)

    @property
    def process_ids(self) -> list[int]:
        """Ids of the processes."""
        return [worker.process.pid for worker in self._workers]

    def batches(
        self, plans: Sequence[BatchPlan], ahead: int
    ) -> Generator[tuple[list[Place], list[tuple[Pixels, L]], int], None, None]:
        """Yield the batches of some plans in order.

        Parameters
        ----------
        plans
            What to prepare.
        ahead
            How many batches may be in preparation or wait.

        Yields
        ------
        Places of the images; of each its pixels ``[height, width, 3]``, RGB, uint8 or float32, and its boxes; and
        the number of images of the batch on all processes.

        Raises
        ------
        TaoError
            What a worker raised: an image that can't be read, say.
        EnvironmentProblem
            A worker died.
        """
        waiting: deque[int] = deque()
        rest = iter(plans)
        most = max(1, min(ahead, _MOST_WAITING * len(self._workers)))
        try:
            for plan in plans:
                while len(waiting) < most and (upcoming := next(rest, None)) is not None:
                    waiting.append(self._submit(upcoming))
                places, global_size = self._samples.places(plan)
                yield places, self._take(waiting.popleft()), global_size
        finally:
            self._forgotten.update(waiting)

    def close(self) -> None:
        """End the processes and give everything back; may be called twice."""
        self._end()

    # -- one batch -------------------------------------------------------------------------------------------------

    def _submit(self, plan: BatchPlan) -> int:
        """Give a plan to the next worker in turn; return its ticket."""
        with self._lock:
            self._clear_forgotten()
            self._fit(plan.batch_size * self._stride)
            if not self._free:
                self._free.append(self._slots)
                self._slots += 1
            ticket = self._next_ticket
            self._next_ticket += 1
            task = Task(plan, self._free.pop() * self._slot_bytes, self._stride)
            worker = self._workers[ticket % len(self._workers)]
            _send(worker, pickle.dumps(task))
            worker.tickets.append(ticket)
            self._tasks[ticket] = task
            return ticket

    def _fit(self, needed: int) -> None:
        """Make slots large enough; where batches grow, after all that is in work."""
        if needed <= self._slot_bytes:
            return
        for worker in self._workers:
            while worker.tickets:
                self._receive(worker)
        if self._tasks.keys() - self._forgotten:
            raise RuntimeError("larger batches were asked for while smaller ones were still being read")
        self._clear_forgotten()
        self._slot_bytes, self._free, self._slots = needed, [], 0

    def _take(self, ticket: int) -> list[tuple[Pixels, L]]:
        """Wait for a ticket; return its images."""
        with self._lock:
            worker = self._workers[ticket % len(self._workers)]
            while ticket not in self._answers:
                self._receive(worker)
            answer, task = self._answers.pop(ticket), self._tasks.pop(ticket)
            shown: list[tuple[Pixels, L]] = []
            for position, (kind, labels) in enumerate(zip(answer.kinds, answer.labels, strict=True)):
                pixels = np.empty(self._shape, kind)
                read_all(self._pixels, pixels, task.offset + position * self._stride)
                shown.append((pixels, labels))
            self._free.append(task.offset // self._slot_bytes)
            if answer.failure is not None:
                raise pickle.loads(answer.failure)
            return shown

    def _clear_forgotten(self) -> None:
        """Free the slots of batches that nobody waits for any more."""
        for ticket in self._forgotten & self._answers.keys():
            del self._answers[ticket]
            self._free.append(self._tasks.pop(ticket).offset // max(1, self._slot_bytes))
            self._forgotten.discard(ticket)

    def _receive(self, worker: _Worker) -> None:
        """Take the next answer of a worker."""
        try:
            answer: Answer = worker.connection.recv()
        except (EOFError, OSError) as error:
            raise _death_of(worker) from error
        self._answers[worker.tickets.popleft()] = answer


def _start(files: tuple[int, ...]) -> _Worker:
    """Start one process."""
    ours, theirs = socket.socketpair()
    with theirs:
        # The training's own search path: in a notebook it may differ from that of a fresh interpreter.
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment = {**os.environ, **one_thread, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", _PROGRAM, str(theirs.fileno())]
        try:
            process = subprocess.Popen(
                command, pass_fds=(theirs.fileno(), *files), stdin=subprocess.DEVNULL, env=environment
            )
        except OSError as error:
            ours.close()
            raise EnvironmentProblem(
                f"a process that prepares batches can't be started: {error.strerror}",
                hint="Lower n_workers in training_config, or do without use_multiprocessing.",
            ) from error
    return _Worker(process, Connection(ours.detach()))


def _send(worker: _Worker, message: bytes) -> None:
    try:
        worker.connection.send_bytes(message)
    except OSError as error:
        raise _death_of(worker) from error


def _death_of(worker: _Worker) -> EnvironmentProblem:
    """Return the error for a worker that is gone."""
    try:
        code = worker.process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        code = 0
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    memory = code == -signal.SIGKILL
    return EnvironmentProblem(
        f"a process that prepares batches (pid {worker.process.pid}) ended {how}",
        hint="The system does that when memory runs out: lower n_workers or max_queue_size, or do without "
        "use_multiprocessing."
        if memory
        else "See the lines above for its last words; without use_multiprocessing the same runs in this process.",
    )


def _end(workers: list[_Worker], pixels: int) -> None:
    """Close the sockets, so that the workers end; kill those that don't."""
    for worker in workers:
        worker.connection.close()
    for worker in workers:
        try:
            worker.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
    workers.clear()
    os.close(pixels)

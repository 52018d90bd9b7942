"""Small tensors between processes on one machine, through memory that they share.

Batch normalisation exchanges a few hundred numbers in each layer, and the network waits for them. Gloo hands such a
message through threads and sockets, which takes it milliseconds where the cores are busy; here it takes as long as the
slowest process.

Each process has two places to write to, in turn. It can only come back to the first when every other one has written
its next message, and so has read this one.
"""

from __future__ import annotations

import mmap
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

#: Most numbers of a message: the statistics of 8,000 channels.
CAPACITY = 1 << 14
#: A sequence number, in a cache line of its own, and the message.
_PLACE_BYTES = 64 + 4 * CAPACITY
#: How long a process looks without a pause, how long a pause is, and how long it waits in all. A process that looks
#: for long seems busy, and keeps what else runs on the machine from taking its core.
_EAGER_S, _PAUSE_S, _PATIENCE_S = 0.0002, 0.00005, 1800.0


class Mailbox:
    """A place where all processes leave a message for all others.

    Parameters
    ----------
    path
        A file of :func:`create`.
    rank, size
        Which of how many processes this is.
    """

    def __init__(self, path: str, rank: int, size: int) -> None:
        with Path(path).open("r+b") as file:
            memory = mmap.mmap(file.fileno(), size * 2 * _PLACE_BYTES)
        places = np.frombuffer(memory, np.uint8).reshape(size, 2, _PLACE_BYTES)
        self._numbers = places[:, :, :8].view(np.int64)[:, :, 0]
        self._messages = places[:, :, 64:].view(np.float32)
        self._rank = rank
        self._sent = 0

    def exchange(self, message: Tensor) -> Tensor:
        """Leave a message and return those of all processes.

        Parameters
        ----------
        message
            float32 on the CPU, the same shape everywhere, at most :data:`CAPACITY` numbers.

        Returns
        -------
        Tensor
            [ranks, …]

        Raises
        ------
        RuntimeError
            Another process has been silent for half an hour.
        """
        self._sent += 1
        place, count = self._sent % 2, message.numel()
        self._messages[self._rank, place, :count] = message.detach().reshape(-1).numpy()
        # The number goes last: x86 keeps the order of writes, and elsewhere there is no mailbox.
        self._numbers[self._rank, place] = self._sent
        self._wait(place)
        everyone = torch.from_numpy(self._messages[:, place, :count].copy())
        return everyone.reshape(-1, *message.shape)

    def _wait(self, place: int) -> None:
        numbers = self._numbers[:, place]
        start = time.monotonic()
        while int(numbers.min()) < self._sent:
            waited = time.monotonic() - start
            if waited > _PATIENCE_S:
                raise RuntimeError("gloo mailbox: another process does not answer")
            if waited < _EAGER_S:
                os.sched_yield()  # whoever shares this core may have it
            else:
                time.sleep(_PAUSE_S)


def create(size: int) -> str:
    """Return the path of a new file for so many processes; it is removed when all have opened it."""
    folder = "/dev/shm" if Path("/dev/shm").is_dir() else None
    handle, path = tempfile.mkstemp(prefix="taomagic-ranks-", dir=folder)
    with os.fdopen(handle, "wb") as file:
        file.truncate(size * 2 * _PLACE_BYTES)
    return path


def is_possible() -> bool:
    """Whether this machine keeps the order of writes, and all processes are on it."""
    local, whole = os.environ.get("LOCAL_WORLD_SIZE"), os.environ.get("WORLD_SIZE")
    return local == whole and platform.machine() in {"x86_64", "AMD64"} and hasattr(os, "sched_yield")

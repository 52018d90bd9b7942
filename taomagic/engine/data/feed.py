"""Batches of training images for any network: made when they are asked for, or beforehand by threads or processes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import cv2
import psutil

from taomagic.engine.cores import usable_cores
from taomagic.engine.data.image_store import ImageStore
from taomagic.engine.data.images import Pixels
from taomagic.engine.data.prefetch import in_order, in_thread
from taomagic.engine.data.samples import BatchPlan, Place, Preparation
from taomagic.engine.data.worker_pool import WorkerPool
from taomagic.engine.training import quick_mode

logger = logging.getLogger(__name__)

#: Boxes and classes of one image, and a batch; each family of networks has its own.
L = TypeVar("L")
B = TypeVar("B")

#: A GPU is fed by this many processes at most; with more, this one, which hands their batches on, is the narrow place.
_MOST_PROCESSES = 12
#: Finished batches, in memory that a GPU can read by itself, that wait for it.
READY_BATCHES = 2
#: Share of the free memory that batches may take which wait for their turn.
_SHARE_OF_MEMORY = 0.25


@dataclass(frozen=True, slots=True)
class Workers:
    """Who prepares batches.

    Attributes
    ----------
    count
        0 for nobody: each batch is made when it is asked for.
    processes
        Whether they are processes, not threads.
    """

    count: int
    processes: bool


def choose_workers(asked: int | None = None, *, processes: bool = False, on_gpu: bool = False) -> Workers:
    """Decide who prepares batches.

    As many threads as asked for, or processes. Where nobody asks: on a CPU nobody, as they would take the cores that
    the network needs; for a GPU as many processes as the machine has cores to spare, of its share where several GPUs
    train. In quick mode on a CPU nobody: workers would prepare whole epochs, of which it takes a step.

    Parameters
    ----------
    asked
        Number of workers.
    processes
        Take processes in place of threads.
    on_gpu
        Whether the network runs on a GPU.
    """
    if not on_gpu and quick_mode.is_on():
        if asked or processes:
            logger.warning("QUICK MODE: no workers, each batch is made when it is asked for.")
        return Workers(0, processes=False)
    if asked is None and (processes or on_gpu):
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # set by torchrun
        spare = usable_cores() - 1
        return Workers(max(1, min(_MOST_PROCESSES, spare // max(1, here))), processes=True)
    count = asked or 0
    return Workers(max(1, count) if processes else count, processes)


def batches_ahead(workers: Workers, batch_bytes: int) -> int:
    """Return how many batches may be in preparation or wait: one for each worker and two more, if memory allows."""
    room = int(psutil.virtual_memory().available * _SHARE_OF_MEMORY) // max(1, batch_bytes)
    return max(READY_BATCHES, min(workers.count + READY_BATCHES, room))


class Feed(Generic[L, B]):
    """Makes the batches of a training.

    Every number and kind of workers gives the same batches; see :mod:`taomagic.engine.data.samples`.

    Parameters
    ----------
    samples
        The images and how they are changed.
    collate
        Makes a batch of places, their images with boxes, and the number of images on all processes.
    workers
        Who prepares batches.
    on_gpu
        Whether batches are put into pinned memory; then a thread does that while the network works.
    cache_bytes
        Memory for decoded images; by default chosen by the machine's.
    """

    def __init__(
        self,
        samples: Preparation[L],
        collate: Callable[[Sequence[Place], Sequence[tuple[Pixels, L]], int], B],
        workers: Workers,
        *,
        on_gpu: bool = False,
        cache_bytes: int | None = None,
    ) -> None:
        # OpenCV's own threads gain nothing on images this small and fight with the network's.
        cv2.setNumThreads(1)
        self._samples = samples
        self._collate = collate
        self.workers = workers
        self._on_gpu = on_gpu
        self._cache_bytes = cache_bytes
        self._store: ImageStore | None = None
        self._pool: WorkerPool[L] | None = None

    def batches(self, plans: Sequence[BatchPlan], ahead: int) -> Generator[B, None, None]:
        """Yield the batches of some plans in order.

        Parameters
        ----------
        plans
            What to make.
        ahead
            How many batches may be in preparation or wait.

        Raises
        ------
        DataProblem
            An image can't be decoded; says which.
        EnvironmentProblem
            A process that prepares batches died.
        """
        batches = (
            self._by_processes(plans, ahead) if self.workers.processes else self._by_threads(plans, ahead)
        )
        yield from in_thread(batches, READY_BATCHES) if self._on_gpu else batches

    def _by_threads(self, plans: Sequence[BatchPlan], ahead: int) -> Generator[B, None, None]:
        """Yield batches made in this process."""
        if self._store is None:
            self._store = ImageStore(self._samples.decode, self._cache_bytes)
        store = self._store

        def make(plan: BatchPlan) -> B:
            places, global_size = self._samples.places(plan)
            return self._collate(
                places, [self._samples.changed(store, place) for place in places], global_size
            )

        yield from in_order([partial(make, plan) for plan in plans], self.workers.count, ahead)

    def _by_processes(self, plans: Sequence[BatchPlan], ahead: int) -> Generator[B, None, None]:
        """Yield batches made by other processes."""
        if self._pool is None:
            self._pool = WorkerPool(self._samples, self.workers.count, self._cache_bytes)
        for places, shown, global_size in self._pool.batches(plans, ahead):
            yield self._collate(places, shown, global_size)

    def close(self) -> None:
        """Give decoded images back, and end the processes that prepare batches; a further batch starts them anew."""
        if self._pool is not None:
            self._pool.close()
        if self._store is not None:
            self._store.close()
        self._pool = self._store = None


def in_turn(
    make: Callable[[range], B],
    count: int,
    batch_size: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    on_gpu: bool = False,
) -> Generator[B, None, None]:
    """Yield batches of all images in order, or every ``world_size``-th batch from the ``rank``-th on.

    Together the ranks get each batch that a single process gets, once; the first ones may get one more.

    Parameters
    ----------
    make
        Makes the batch of some consecutive images.
    count
        How many images there are.
    batch_size
        Images per batch; the last one may have fewer.
    rank, world_size
        Which of how many processes this is.
    on_gpu
        Whether threads prepare batches ahead: OpenCV lets others run while it decodes and resizes.
    """
    starts = range(rank * batch_size, count, world_size * batch_size)
    threads = choose_workers(on_gpu=True).count if on_gpu else 0
    yield from in_order(
        [partial(make, range(start, min(start + batch_size, count))) for start in starts],
        threads,
        threads + READY_BATCHES,
    )

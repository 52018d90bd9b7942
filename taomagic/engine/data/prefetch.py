"""Batches ahead of the network: in threads, and on their way to a GPU."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

#: How long the thread waits before it looks whether anybody still wants its batches.
_LOOK_UP_S = 0.1


def in_order(makers: Sequence[Callable[[], T]], workers: int, ahead: int) -> Generator[T, None, None]:
    """Yield what the makers make, in order; with worker threads up to ``ahead`` of them work beforehand."""
    if workers <= 0:
        for make in makers:
            yield make()
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="taomagic-batches") as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for make in makers:
                waiting.append(pool.submit(make))
                if len(waiting) > max(ahead, 1):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def in_thread(items: Generator[T, None, None], ahead: int) -> Generator[T, None, None]:
    """Yield the same items, taken by a thread beforehand, so that taking them costs the caller nothing.

    Parameters
    ----------
    items
        Closed when this generator is, finished or not.
    ahead
        How many items may wait.

    Raises
    ------
    Exception
        Whatever ``items`` raises, in its place.
    """
    ready: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(max(1, ahead))
    left = threading.Event()

    def put(item: tuple[bool, T | BaseException | None]) -> None:
        while not left.is_set():
            try:
                ready.put(item, timeout=_LOOK_UP_S)
            except queue.Full:
                continue
            break

    def work() -> None:
        try:
            for item in items:
                put((True, item))
                if left.is_set():
                    break
            put((False, None))
        except BaseException as error:  # it belongs to the caller, who gets it
            put((False, error))
        finally:
            items.close()

    thread = threading.Thread(target=work, name="taomagic-ahead", daemon=True)
    thread.start()
    try:
        while True:
            more, item = ready.get()
            if more:
                yield item  # type: ignore[misc]  # the thread puts items with True only
            elif item is None:
                return
            else:
                raise item  # type: ignore[misc]  # and errors with False
    finally:
        left.set()
        thread.join()


def one_ahead(items: Iterable[T]) -> Generator[T, None, None]:
    """Yield the same items, each only after the next one was asked for."""
    held: deque[T] = deque()
    for upcoming in items:
        held.append(upcoming)
        if len(held) > 1:
            yield held.popleft()
    yield from held

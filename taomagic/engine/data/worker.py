"""The process that prepares batches beside the training; :mod:`taomagic.engine.data.worker_pool` starts it.

It gets plans of batches over the socket and answers with labels; pixels go through a file without a name that both
sides have open. It ends when the other side does, for whatever reason. Nothing here imports torch.
"""

from __future__ import annotations

import pickle
import signal
import sys
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import cv2

from taomagic.engine.data.samples import BatchPlan, Preparation
from taomagic.engine.data.shared_store import Layout, SharedStore, write_all


@dataclass(frozen=True, slots=True)
class Setup:
    """First message to a worker.

    Attributes
    ----------
    samples
        What to prepare.
    layout, memory, disk
        The store of decoded images and its descriptors.
    pixels
        Descriptor of the file for finished batches.
    """

    samples: Preparation[Any]
    layout: Layout
    memory: int
    disk: int
    pixels: int


@dataclass(frozen=True, slots=True)
class Task:
    """Prepare a batch and write its images into the file for finished batches.

    Attributes
    ----------
    plan
        Which batch.
    offset, stride
        Where the first image goes, and how far apart they lie, in bytes.
    """

    plan: BatchPlan
    offset: int
    stride: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker says of a batch.

    Attributes
    ----------
    labels
        Boxes of each image.
    kinds
        How the pixels of each image are stored: NumPy's name of their type.
    failure
        What went wrong, an exception, pickled.
    """

    labels: list[Any]
    kinds: list[str]
    failure: bytes | None = None


def serve(connection: Connection) -> None:
    """Answer tasks until the other side closes the connection."""
    setup: Setup = connection.recv()
    store = SharedStore(setup.layout, setup.memory, setup.disk, setup.samples.decode)
    while True:
        task: Task = connection.recv()
        try:
            answer = _prepare(setup, store, task)
        except Exception as error:
            answer = Answer([], [], _packed(error))
        connection.send(answer)


def _prepare(setup: Setup, store: SharedStore, task: Task) -> Answer:
    """Make a batch, write its pixels, return its labels."""
    places, _ = setup.samples.places(task.plan)
    answer = Answer([], [])
    for position, place in enumerate(places):
        image, labels = setup.samples.changed(store, place)
        write_all(setup.pixels, image, task.offset + position * task.stride)
        answer.labels.append(labels)
        answer.kinds.append(image.dtype.str)
    return answer


def _packed(error: Exception) -> bytes:
    """Return an error as bytes, with its traceback as a note."""
    error.add_note("In a process that prepares batches:\n" + "".join(traceback.format_exception(error)))
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)  # some errors can be written but not read
    except Exception:
        return pickle.dumps(RuntimeError("".join(traceback.format_exception(error))))
    return packed


def main() -> None:
    """Serve on the inherited socket whose descriptor is the first argument."""
    # Ctrl-C and a stop of the job reach the whole process group. The training decides what happens then; a worker
    # ends when the training closes the socket, or ends itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(1)
    try:
        serve(Connection(int(sys.argv[1])))
    except (EOFError, ConnectionError):
        return

"""Processes that prepare batches: the same batches, each image decoded once, nothing left behind however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from taomagic.engine.data.feed import choose_workers
from taomagic.engine.data.loading import TrainingData, on_device, workers_for
from taomagic.engine.data.prefetch import in_thread, one_ahead
from taomagic.engine.data.shared_store import Layout, SharedStore, shared_files
from taomagic.errors import DataProblem, EnvironmentProblem
from taomagic.project.paths import PathMap
from tests.engine.data.conftest import ROOT, convert, experiment, export
from tests.engine.data.test_loading import WILD, equal

Make = Callable[..., TrainingData]
RECORDS = f"{ROOT}/tfrecords/kitti*"


@pytest.fixture
def make(kitti: Path, paths: PathMap) -> Iterator[Make]:
    """Return a function that loads the tiny data set with worker processes, which are ended afterwards."""
    made: list[TrainingData] = []

    def load(workers: int = 2, tfrecords: str | None = None, **options: Any) -> TrainingData:
        cache = options.pop("cache_bytes", None)
        one = experiment(tfrecords=tfrecords, **options)
        data = TrainingData(
            one,
            paths,
            7,
            workers=workers,
            use_multiprocessing=True,
            cache_bytes=cache,
        )
        made.append(data)
        return data

    yield load
    for one in made:
        one.close()


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    return [p for p in process.children(recursive=True) if "engine.data.worker" in " ".join(p.cmdline())]


@pytest.mark.parametrize(
    ("tfrecords", "options"),
    [
        (None, {**WILD, "workers": 3}),
        (RECORDS, WILD),
        (None, {**WILD, "cache_bytes": 60_000}),  # two images in memory, the others on the disk
        (None, {"output_channel": 1, "workers": 1}),  # resized as floats
    ],
)
def test_processes_give_the_same_batches_bit_for_bit(
    kitti: Path, paths: PathMap, make: Make, tfrecords: str | None, options: dict[str, Any]
) -> None:
    convert(export(), kitti / "tfrecords/kitti", paths=paths)
    data = make(tfrecords=tfrecords, **options)
    options = {k: v for k, v in options.items() if k not in ("workers", "cache_bytes")}
    alone = TrainingData(experiment(tfrecords=tfrecords, **options), paths, 7, workers=0)
    for epoch in (1, 2):
        assert equal(list(alone.epoch(epoch, 3)), list(data.epoch(epoch, 3)))
    share = {"rank": 1, "world_size": 4}
    assert equal(list(alone.epoch(3, 9, **share)), list(data.epoch(3, 9, **share)))
    larger = list(data.epoch(4, 10))  # a larger batch than before needs more room
    assert equal(list(alone.epoch(4, 10)), larger)


def test_an_epoch_may_be_left_early_and_others_begun(make: Make, paths: PathMap) -> None:
    data = make()
    first = data.epoch(1, 2)
    next(first)
    second = data.epoch(2, 2)
    kept = [next(second)]
    first.close()
    kept += second
    alone = TrainingData(experiment(), paths, 7)
    assert equal(kept, list(alone.epoch(2, 2)))
    assert equal(list(data.epoch(3, 2)), list(alone.epoch(3, 2)))


def test_an_image_that_cannot_be_read_is_named(kitti: Path, make: Make) -> None:
    image = kitti / "image_2/000004.png"
    whole = image.read_bytes()
    image.write_bytes(whole[:500])
    data = make()
    with pytest.raises(DataProblem, match="cut off") as caught:
        list(data.epoch(1, 4))
    assert caught.value.where == f"{ROOT}/image_2/000004.png"
    assert caught.value.hint
    image.write_bytes(whole)
    assert sum(len(batch) for batch in data.epoch(1, 4)) == 10


def test_a_process_that_dies_is_one_clear_error(make: Make) -> None:
    data = make()
    batches = data.epoch(1, 2)
    next(batches)
    victims = workers_of(psutil.Process())
    for victim in victims:
        os.kill(victim.pid, signal.SIGKILL)
    with pytest.raises(EnvironmentProblem, match="ended by SIGKILL") as caught:
        list(data.epoch(2, 2))
    assert "n_workers" in caught.value.hint
    data.close()
    assert not any(psutil.pid_exists(victim.pid) for victim in victims)
    assert len(list(data.epoch(2, 2))) == 5  # begun anew


def test_closing_leaves_neither_processes_nor_files(make: Make) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    files, shared = open_files(), set(Path("/dev/shm").iterdir())
    data = make()
    batches = data.epoch(1, 2)
    next(batches)
    batches.close()
    workers = workers_of(psutil.Process())
    assert len(workers) == 2
    del batches
    data.close()
    assert not any(psutil.pid_exists(worker.pid) for worker in workers)
    assert open_files() == files
    # Others may put files there meanwhile; ours would belong to this process' children.
    assert not [p for p in set(Path("/dev/shm").iterdir()) - shared if "taomagic" in p.name]


#: Batches without end. Without torch, for this test's sake: TrainingData does no more with the pool.
PROGRAM = """
import sys
from taomagic.engine.data.records import collect
from taomagic.engine.data.samples import BatchPlan, Samples
from taomagic.engine.data.worker_pool import WorkerPool
from taomagic.engine.signals import install_handlers
from taomagic.project.paths import PathMap
from tests.engine.data.conftest import ROOT, experiment
install_handlers()
one = experiment()
data = collect(one.dataset.data_sources, one.dataset, PathMap([(sys.argv[1], ROOT)]), purpose="training")
pool = WorkerPool(Samples(data.encoded, data.labels, False, one.augmentation, 7), 2)
for epoch in range(1, 1_000_000):
    for _ in pool.batches([BatchPlan(epoch, number, 2, 0, 1) for number in range(5)], 8):
        print(epoch, flush=True)
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_training(kitti: Path, signum: signal.Signals) -> None:
    command = [sys.executable, "-c", PROGRAM, str(kitti)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as training:
        assert training.stdout is not None
        assert training.stderr is not None
        while training.stdout.readline().strip() != "2":
            assert training.poll() is None
        workers = workers_of(psutil.Process(training.pid))
        assert len(workers) == 2
        if signum == signal.SIGKILL:
            os.kill(training.pid, signum)
        else:
            os.killpg(training.pid, signum)  # as a terminal does, or the launcher: the workers get it too
        training.stdout.close()
        said = training.stderr.read()
        training.wait(30)
    if signum != signal.SIGKILL:
        assert said.rstrip().endswith(f"Stopped: {signum.name}")
        assert "ended by" not in said
    gone, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    assert len(gone) == 2


def test_decoded_images_are_shared() -> None:
    decoded: list[tuple[str, int]] = []

    def decode(who: str, index: int) -> np.ndarray:
        decoded.append((who, index))
        # The last one has another size than its header said.
        return np.full((4, 5 + (index == 3), 3), index, np.uint8)

    layout, memory, disk = shared_files([(5, 4), (5, 4), None, (5, 4)], memory_budget=60)
    try:
        assert layout.on_disk.tolist() == [False, True, False, True]
        first = SharedStore(layout, memory, disk, lambda index: decode("first", index))
        second = SharedStore(layout, memory, disk, lambda index: decode("second", index))
        for store in (first, second, first):
            for index in range(4):
                assert (store[index] == index).all()
    finally:
        os.close(memory)
        os.close(disk)
    # What has no known place is decoded each time, the others once for all.
    assert decoded == [("first", i) for i in range(4)] + [
        ("second", 2),
        ("second", 3),
        ("first", 2),
        ("first", 3),
    ]


def test_without_room_images_are_decoded_again() -> None:
    layout = Layout.plan([(5, 4)] * 3, memory_budget=60, disk_budget=60)
    assert (layout.offsets >= 0).tolist() == [True, True, False]
    assert (layout.memory_bytes, layout.disk_bytes) == (3 + 60, 60)


@pytest.mark.parametrize(
    ("n_workers", "in_spec", "arguments", "expected"),
    [
        (None, False, {}, (0, False)),
        (3, False, {}, (3, False)),
        (3, True, {}, (3, True)),
        (3, False, {"use_multiprocessing": True}, (3, True)),
        (3, False, {"workers": 1}, (1, False)),
        (None, True, {}, (7, True)),
        (None, False, {"on_gpu": True}, (7, True)),
        (2, False, {"on_gpu": True}, (2, False)),
    ],
)
def test_who_prepares_batches(
    monkeypatch: pytest.MonkeyPatch,
    n_workers: int | None,
    in_spec: bool,
    arguments: dict[str, object],
    expected: tuple[int, bool],
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    settings = SimpleNamespace(n_workers=n_workers, use_multiprocessing=in_spec)
    chosen = workers_for(settings, **arguments)  # type: ignore[arg-type]
    assert (chosen.count, chosen.processes) == expected
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert choose_workers(on_gpu=True).count == 1  # of 7 cores to spare


def test_a_thread_takes_items_ahead_and_hands_on_errors() -> None:
    closed = []

    def items(last: int) -> Generator[int, None, None]:
        try:
            yield from range(last)
            raise DataProblem("no more")
        finally:
            closed.append(last)

    short = in_thread(items(5), 2)
    assert [next(short) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(DataProblem, match="no more"):
        next(short)
    endless = in_thread(items(1_000_000), 2)
    assert next(endless) == 0
    endless.close()
    assert closed == [5, 1_000_000]


def test_one_ahead_asks_for_the_next_before_it_gives_one() -> None:
    log: list[str] = []

    def items() -> Iterator[int]:
        for item in range(3):
            log.append(f"made {item}")
            yield item

    for item in one_ahead(items()):
        log.append(f"got {item}")
    assert log == ["made 0", "made 1", "got 0", "made 2", "got 1", "got 2"]
    assert list(one_ahead([])) == []


def test_on_a_cpu_batches_stay_where_they_are(make: Make) -> None:
    batches = list(make().epoch(1, 4))
    assert all(a is b for a, b in zip(batches, on_device(iter(batches), torch.device("cpu")), strict=True))


def test_workers_do_not_load_torch() -> None:
    program = "import sys, taomagic.engine.data.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

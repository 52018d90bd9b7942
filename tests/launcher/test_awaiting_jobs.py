from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taomagic.errors import StageFailed, StageInterrupted
from taomagic.launcher.command import parse_command
from taomagic.launcher.context import Context
from taomagic.launcher.job import Job
from taomagic.launcher.runners.process import ProcessRunner
from taomagic.project.mounts import MountMap

PROGRAM = """\
import sys, time
end = sys.argv[sys.argv.index("-m") + 1]
if end.startswith("sleep"):
    time.sleep(float(end[5:]))
print("Execution status: " + ("FAIL" if end == "fail" else "PASS"))
sys.exit(end == "fail")
"""


class Starter:
    def __init__(self, folder: Path) -> None:
        program = folder / "program.py"
        program.write_text(PROGRAM)
        self._runner = ProcessRunner([sys.executable, str(program)])
        self._context = Context(folder, folder, {"HOME": str(folder), "PATH": "/usr/bin:/bin"}, MountMap())
        self.jobs: list[Job] = []

    def __call__(self, how: str) -> Job:
        job = self._runner.start(parse_command(["ssd", "evaluate", "-m", how]), self._context)
        self.jobs.append(job)
        return job


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    yield starter
    for job in starter.jobs:
        job.kill()


async def wait(job: Job) -> object:
    return await job


def test_awaiting_a_job_gives_its_result(start: Starter) -> None:
    result = asyncio.run(wait(start("ok")))
    assert result.ok  # type: ignore[attr-defined]


def test_awaiting_a_failure_raises(start: Starter) -> None:
    with pytest.raises(StageFailed):
        asyncio.run(wait(start("fail")))


def test_a_job_that_is_stopped_meanwhile_raises_so(start: Starter) -> None:
    async def both() -> None:
        job = start("sleep60")
        waiting = asyncio.ensure_future(job)
        while job.state.value != "running":
            await asyncio.sleep(0.05)
        await asyncio.to_thread(job.stop, 5)
        await waiting

    with pytest.raises(StageInterrupted):
        asyncio.run(both())


def test_several_jobs_are_awaited_together_while_the_loop_goes_on(start: Starter) -> None:
    async def run() -> tuple[list[object], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.02)
                ticks += 1

        ticking = asyncio.ensure_future(tick())
        results = await asyncio.gather(start("sleep0.8"), start("sleep0.8"), start("ok"))
        ticking.cancel()
        return results, ticks

    results, ticks = asyncio.run(run())
    assert [result.ok for result in results] == [True] * 3  # type: ignore[attr-defined]
    assert ticks > 10


def test_whoever_stops_waiting_leaves_the_job_running(start: Starter) -> None:
    async def give_up() -> Job:
        job = start("sleep60")
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job, 0.5)
        assert time.monotonic() - began < 10
        async with asyncio.timeout(5):
            waiting = asyncio.ensure_future(job)
            await asyncio.sleep(0.3)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await waiting
        assert job.id in "\n".join(caught.value._render_traceback_())  # type: ignore[attr-defined]
        return job

    assert not asyncio.run(give_up()).state.finished

"""Family B on a real engine: what ``%tao_env`` writes is what a started container has."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from taomagic.errors import EnvironmentProblem
from taomagic.launcher.context import Context
from taomagic.project.environment import derive

from .images import Docker
from .test_docker_runner import log_of, start_in

SCRIPT = (
    "df /dev/shm | tail -1 | awk '{print $2}'; ulimit -l; ulimit -s; id -u; cat /specs/a.yaml; "
    "echo made > /results/b.txt; ls /data/ocdnet"
)


def test_a_container_has_family_bs_folders_memory_and_limits(
    clean_docker: Docker, busybox_image: str, tmp_path: Path
) -> None:
    environ = {"HOME": str(tmp_path / "home")}
    environment = derive("ocdnet", tmp_path, environ).apply(environ)
    assert environment.mounts.docker_options["ulimits"] == {"memlock": -1, "stack": 67108864}
    (tmp_path / "specs" / "a.yaml").write_text("from: specs\n")
    (tmp_path / "data" / "ocdnet" / "train").mkdir()
    mounts = Context.current(environ, tmp_path).mounts
    words, memlock = ["ocdnet", "run", "sh", "-c", SCRIPT], "unlimited"
    try:
        job = start_in(clean_docker, tmp_path, busybox_image, words, mounts)
    except EnvironmentProblem as problem:
        # An engine in a container may not lift this limit, which is told; the others count all the same.
        assert "may not raise a limit" in problem.message  # noqa: PT017 - another engine allows it
        assert "memlock" in problem.hint  # noqa: PT017
        options, memlock = {**mounts.docker_options, "ulimits": {"stack": 67108864}}, ""
        mounts = replace(mounts, docker_options=options)
        job = start_in(clean_docker, tmp_path, busybox_image, words, mounts)
    assert job.wait(30).ok, log_of(job)
    shared, locked, stack, *others = log_of(job)[-6:]
    assert shared == str(16 * 1024**2)  # KiB, as of all limits
    assert locked == memlock or not memlock
    assert stack == str(64 * 1024)
    assert others == [str(os.getuid()), "from: specs", "train"]
    made = tmp_path / "ocdnet" / "results" / "b.txt"
    assert made.read_text() == "made\n"
    assert made.stat().st_uid == os.getuid()

"""A notebook in NVIDIA's manner with NVIDIA's own specs, run as `tao notebook run --quick --sample-data`.

    python benchmarks/nvidia_notebooks.py [detectnet_v2|ssd] [VERSION] [--dir DIR] [--in-process] [--out FILE.json]

The notebooks are those of the tests; the specs are those of `specs/`, unchanged: 1248×384 or 300×300, batches of 4 to
32, a ResNet-18 of full width, 80 or 120 epochs. Printed are the seconds of each command, the time of all
cells, the most memory that the run and all of its processes took at one time, and the disk. Memory is PSS: pages that
processes share count once.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).parents[1]
#: Marks the processes of a run: jobs live in sessions of their own, and outlive their parents.
_MARK = "TAOMAGIC_BENCHMARK_RUN"
_SECONDS_BETWEEN_LOOKS = 0.5
_MIB = 2**20
#: Seconds that a notebook with three or four trainings may take on two quiet cores.
_TARGETS = {"detectnet_v2": 600, "ssd": 720}


class Watch(threading.Thread):
    """Looks at the memory and the disk of a run, again and again.

    Attributes
    ----------
    memory, memory_of
        The most bytes at one time, and the command line of the largest process then.
    disk
        The most bytes in the folder at one time.
    """

    def __init__(self, mark: str, folder: Path) -> None:
        super().__init__(daemon=True)
        self._mark = f"{_MARK}={mark}".encode()
        self._folder = folder
        self._over = threading.Event()
        self.memory, self.memory_of, self.disk = 0, "", 0

    def run(self) -> None:
        """Look until :meth:`stop`; at the disk seldom."""
        looks = 0
        while not self._over.wait(_SECONDS_BETWEEN_LOOKS):
            self._look_at_memory()
            if looks % 10 == 0:
                self.disk = max(self.disk, used(self._folder))
            looks += 1

    def stop(self) -> None:
        """End, after a last look at the disk."""
        self._over.set()
        self.join()
        self.disk = max(self.disk, used(self._folder))

    def _look_at_memory(self) -> None:
        sizes: dict[str, int] = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal():
                continue
            try:
                if self._mark in (folder / "environ").read_bytes().split(b"\0"):
                    rollup = (folder / "smaps_rollup").read_text()
                    line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    sizes[f"{folder.name} {line}"] = 1024 * int(
                        re.findall(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)[0]
                    )
            except (OSError, IndexError):
                continue  # it has ended
        if sum(sizes.values()) > self.memory:
            self.memory = sum(sizes.values())
            self.memory_of = max(sizes, key=lambda name: sizes[name])


def used(folder: Path) -> int:
    """Return the bytes that the files of a folder take on the disk; several names of one file count once."""
    seen: dict[int, int] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(f"{place}/{name}")
            except OSError:
                continue
            seen[status.st_ino] = 512 * status.st_blocks
    return sum(seen.values())


def prepare(project: Path, network: str, version: str) -> Path:
    """Write a notebook of the tests, its specs and its helpers as a person finds them, and return the notebook."""
    sys.path.insert(0, str(ROOT))
    module: Any = importlib.import_module(f"tests.notebook.fixtures.{network}_notebooks")
    if version not in module.VERSIONS:
        sys.exit(f"{network} has {', '.join(module.VERSIONS)}, not {version}.")
    folder: Path = project / getattr(module, "FOLDER", {}).get(version, ".")
    specs = {f"specs/{name}": text for name, text in module.specs(version).items()}
    helpers = module.helpers(version) if inspect.signature(module.helpers).parameters else module.helpers()
    for name, text in {**specs, **helpers}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    path = folder / f"{network}.ipynb"
    cells = [new_code_cell(text.strip("\n")) for text in module.cells(version)]
    nbformat.write(new_notebook(cells=cells), path)
    return path


def commands(project: Path) -> list[dict[str, Any]]:
    """Return the commands that became jobs, in their order, with their seconds."""
    rows = []
    for folder in project.glob("**/.tao/jobs/*"):
        if not (folder / "exit.json").is_file():
            continue
        job, end = (json.loads((folder / name).read_text("utf-8")) for name in ("job.json", "exit.json"))
        command = job["command"]
        name = f"{command['task']} {command['subtask']}"
        rows.append({"command": name, "started": job["started"], "seconds": end["finished"] - job["started"]})
    return sorted(rows, key=lambda row: float(row["started"]))


def main() -> int:
    """Run it and print a table of its commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", nargs="?", default="detectnet_v2", choices=["detectnet_v2", "ssd"])
    parser.add_argument("version", nargs="?", default="5.x")
    parser.add_argument(
        "--dir", type=Path, help="empty or new folder, which stays (default: a temporary one)"
    )
    parser.add_argument("--in-process", action="store_true", help="run the engine in the notebook's kernel")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    given = parser.parse_args()
    folder = (given.dir or Path(tempfile.mkdtemp(prefix="taomagic-"))).resolve()
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder} isn't empty.")
    project, home = folder / "project", folder / "home"
    home.mkdir(parents=True)
    path = prepare(project, given.network, given.version)
    words = ["notebook", "run", str(path), "--quick", "--sample-data", "--keep-going"]
    words += ["--in-process"] if given.in_process else []
    taken = {"LOCAL_PROJECT_DIR", "LAUNCHER_MOUNTS", "KEY", "NOTEBOOK_ROOT", "IPYTHONDIR"}
    environment = {name: value for name, value in os.environ.items() if name not in taken}
    environment |= {"HOME": str(home), _MARK: folder.name, "PYTHONUNBUFFERED": "1"}
    load = os.getloadavg()[0]
    watch = Watch(folder.name, folder)
    watch.start()
    began = time.monotonic()
    code = subprocess.run([sys.executable, "-m", "taomagic", *words], env=environment, check=False).returncode
    seconds = time.monotonic() - began
    watch.stop()
    rows = commands(project)
    in_all = sum(float(row["seconds"]) for row in rows)
    print(
        f"\nload before {load:.2f}, {os.cpu_count()} cores, {os.environ.get('OMP_NUM_THREADS', 'all')} threads"
    )
    for row in rows:
        print(f"{row['command']:<36}{row['seconds']:>8.1f} s")
    print(f"{'commands in all':<36}{in_all:>8.1f} s")
    target = _TARGETS[given.network]
    print(f"{'all cells':<36}{seconds:>8.1f} s, {seconds / target:.2f} of the {target} s on two quiet cores")
    print(f"{'most memory':<36}{watch.memory / _MIB:>8.0f} MiB  ({watch.memory_of[:120]})")
    print(f"{'most disk':<36}{watch.disk / _MIB:>8.0f} MiB")
    if given.out:
        figures = {
            "network": given.network, "version": given.version, "load_before": load, "cores": os.cpu_count(),
            "commands": rows, "seconds": seconds, "memory_bytes": watch.memory, "disk_bytes": watch.disk, "exit": code,
        }  # fmt: skip
        given.out.write_text(json.dumps(figures, indent=1) + "\n")
    if given.dir is None:
        shutil.rmtree(folder)
    return code


if __name__ == "__main__":
    sys.exit(main())

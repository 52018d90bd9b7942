"""A sample notebook from the first to the last cell, with the time of each of its commands.

    python benchmarks/notebook.py [ssd|detectnet_v2] [--dir DIR] [--out FILE.json]

It is what `make demo NET=…` runs, in a fresh folder; the closing table holds the metrics. The load is that of the
minute before the start: at the end it is mostly the notebook's own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from taomagic.samples import demo


def commands(project: Path) -> list[dict[str, object]]:
    """Return the notebook's commands in their order, with their seconds."""
    rows = []
    for folder in (project / ".tao" / "jobs").iterdir():
        job, end = (json.loads((folder / name).read_text("utf-8")) for name in ("job.json", "exit.json"))
        command = job["command"]
        rows.append(
            (job["started"], f"{command['task']} {command['subtask']}", end["finished"] - job["started"])
        )
    return [{"command": name, "seconds": round(seconds, 1)} for _, name, seconds in sorted(rows)]


def main() -> int:
    """Run it and print a table of its commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("net", nargs="?", default="detectnet_v2")
    parser.add_argument(
        "--dir", type=Path, help="folder that is empty or not there (default: a temporary one)"
    )
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    folder = (arguments.dir or Path(tempfile.mkdtemp(prefix="taomagic-"))).resolve()
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder} isn't empty: what is there would be taken over, and not timed.")
    load = os.getloadavg()[0]
    if demo.run(arguments.net, folder):
        return 1
    rows = commands(folder / arguments.net)
    print(f"\nload before {load:.2f}, {os.cpu_count()} cores")
    for row in rows:
        print(f"{row['command']:<36}{row['seconds']:>8.1f} s")
    print(f"{'commands in all':<36}{sum(float(str(row['seconds'])) for row in rows):>8.1f} s")
    if arguments.out:
        figures = {"net": arguments.net, "load_before": load, "cores": os.cpu_count(), "commands": rows}
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

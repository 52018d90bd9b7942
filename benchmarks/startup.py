"""How long `tao info` and `%load_ext taomagic` take, each beside a bare interpreter or IPython in the same run.

    python benchmarks/startup.py [--repeats 15]

Prints medians in milliseconds and the ratio to the peer. Runs are interleaved, so that a change in the machine's load
touches both sides alike.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

TAO = str(Path(sys.executable).parent / "tao")

#: Prints the seconds of one `%load_ext` inside a running IPython shell.
LOAD_EXT = """
import time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
start = time.perf_counter()
shell.run_line_magic("load_ext", "{name}")
print(time.perf_counter() - start)
"""


def wall_seconds(command: list[str]) -> float:
    """Run a command to its end and return its wall-clock time."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def printed_seconds(command: list[str]) -> float:
    """Return the number that a command prints last."""
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    python = sys.executable
    cases = {
        "python -c pass": lambda: wall_seconds([python, "-c", "pass"]),
        "tao info": lambda: wall_seconds([TAO, "info"]),
        "tao info --verbose": lambda: wall_seconds([TAO, "info", "--verbose"]),
        "tao ssd train --help": lambda: wall_seconds([TAO, "ssd", "train", "--help"]),
        "%load_ext autoreload (IPython's own)": lambda: printed_seconds(
            [python, "-c", LOAD_EXT.format(name="autoreload")]
        ),
        "%load_ext taomagic": lambda: printed_seconds([python, "-c", LOAD_EXT.format(name="taomagic")]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for repeat in range(repeats + 1):
        for name, measure in cases.items():
            value = measure()
            if repeat:  # the first round fills the disk cache
                seconds[name].append(value)
    print(f"{'what':<38}{'median ms':>10}{'best ms':>10}")
    for name, values in seconds.items():
        print(f"{name:<38}{1000 * statistics.median(values):>10.0f}{1000 * min(values):>10.0f}")


if __name__ == "__main__":
    main()

"""Stands in for the engine where somebody watches: prints an epoch every few tenths of a second until it is stopped.

``lab_engine.py EPOCHS task sub-task arguments…``
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

RULE = "*" * 31


def say(text: str, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


def leave(number: int, _frame: object) -> None:
    say("Execution status: FAIL")
    raise SystemExit(128 + number)


def main() -> int:
    signal.signal(signal.SIGINT, leave)
    epochs = int(sys.argv[1])
    weights = Path("ssd/weights")
    weights.mkdir(parents=True, exist_ok=True)
    say("Starting Training Loop, process " + str(os.getpid()))
    for epoch in range(1, epochs + 1):
        say(f"Epoch {epoch}/{epochs}")
        for step in range(1, 5):
            say(f"{step}/4 [==>....] - ETA: {4 - step}s - loss: {4 / epoch + 1 - step / 4:.4f}", end="\r")
            time.sleep(0.05)
        say(f"4/4 [======] - 1s 50ms/step - loss: {4 / epoch:.4f}")
        name = f"ssd_epoch_{epoch:03d}.tlt"
        (weights / name).write_bytes(b"weights")
        say(f"Epoch {epoch:05d}: saving model to /workspace/tao-experiments/ssd/weights/{name}")
        say(f"{RULE}\ncar           AP    0.71\n              mAP   0.68\n{RULE}")
    say("Execution status: PASS")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

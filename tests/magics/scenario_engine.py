"""A program in the place of the engine: the name of the model given with ``-m`` says what it does."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

RULE = "*" * 31


def say(text: str, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


def train(epochs: int, gate: Path | None = None) -> int:
    for epoch in range(1, epochs + 1):
        while gate and epoch == 3 and not gate.exists():
            time.sleep(0.05)
        say(f"Epoch {epoch}/{epochs}")
        for step in range(1, 5):
            say(f"{step}/4 [====>.....] - ETA: {4 - step}s - loss: {4 / epoch + 1 - step / 4:.4f}", end="\r")
        say(f"4/4 [==========] - 1s 250ms/step - loss: {4 / epoch:.4f}")
        say(f"Epoch {epoch:05d}: saving model to /workspace/tao-experiments/ssd/weights/e_{epoch:03d}.tlt")
        say(
            f"{RULE}\ncar           AP    0.7\n              mAP   0.7\n{RULE}\nValidation loss: {3 / epoch:.5f}"
        )
    return finish(0)


def finish(code: int) -> int:
    say(f"Execution status: {'FAIL' if code else 'PASS'}")
    return code


def polite() -> int:
    def leave(number: int, _frame: object) -> None:
        say("stopping after this batch")
        raise SystemExit(finish(128 + number))

    signal.signal(signal.SIGINT, leave)
    signal.signal(signal.SIGTERM, leave)
    say("holding on")
    time.sleep(60)
    return 0


def stubborn() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("holding on")
    time.sleep(60)
    return 0


def main() -> int:
    scenario, _, number = Path(sys.argv[sys.argv.index("-m") + 1]).stem.partition("-")
    count = int(number or 0)
    match scenario:
        case "train":
            return train(count)
        case "gate":  # in its third epoch it waits for a file "go" in the project
            return train(count, Path("go"))
        case "noise":
            for line in range(count):
                say(f"[{line}] a message that says nothing, {line * 7919 % 10007} times over and over again")
        case "fail":
            say("loading\nERROR: the model <b>is</b> pruned already\nHINT: take the unpruned one")
            return finish(count)
        case "polite":
            return polite()
        case "stubborn":
            return stubborn()
    return finish(0)


if __name__ == "__main__":
    raise SystemExit(main())

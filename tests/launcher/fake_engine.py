"""Stands in for the engine: prints what it would print, without training anything.

``fake_engine.py SCENARIO task sub-task arguments…``
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

RULE = "*******************************"


def say(text: str, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


def train(epochs: int = 3, pause: float = 0.0) -> None:
    say("2026-11-21 09:00:00,123 [TAO Toolkit] [INFO] taomagic.engine.ssd.train 42: Starting Training Loop.")
    say("Estimated time: 3 min 10 s (80 epochs)")
    for epoch in range(1, epochs + 1):
        say(f"Epoch {epoch}/{epochs}")
        for step in (1, 2, 3):
            say(
                f" {step}/4 [====>.....] - ETA: {4 - step}s - loss: {5.0 / epoch + 1 - step / 4:.4f}",
                end="\r",
            )
            time.sleep(pause)
        say(f"4/4 [==========] - 2s 351ms/step - loss: {5.0 / epoch:.4f}")
        path = "/workspace/tao-experiments/ssd/weights"
        say(f"Epoch {epoch:05d}: saving model to {path}/ssd_resnet18_epoch_{epoch:03d}.tlt")
        say("Producing predictions:  50%|█████     | 1/2 [00:01<00:01]", end="\r")
        say("Producing predictions: 100%|██████████| 2/2 [00:02<00:00]")
        say("Start to calculate AP for each class")
        say(RULE)
        say(f"car           AP    {0.5 + epoch / 10}")
        say(f"              mAP   {0.4 + epoch / 10}")
        say(RULE)
        say(f"Validation loss: {3.0 / epoch:.5f}")


def main() -> int:  # noqa: PLR0911 - one for each scenario
    scenario = sys.argv[1]
    match scenario.split(":"):
        case ["train"]:
            train()
            say("Execution status: PASS")
            return 0
        case ["count", lines, pause]:
            for number in range(int(lines)):
                say(f"line {number}")
                time.sleep(float(pause))
            say("Execution status: PASS")
            return 0
        case ["exit", code]:
            say("ERROR: the spec is wrong")
            say("HINT: mend it")
            say("Execution status: FAIL")
            return int(code)
        case ["quiet", code]:
            return int(code)
        case ["signal", number]:
            say("about to go")
            os.kill(os.getpid(), int(number))
        case ["polite"]:

            def leave(signum: int, _frame: object) -> None:
                say("Execution status: FAIL")
                raise SystemExit(128 + signum)

            signal.signal(signal.SIGINT, leave)
            say("waiting")
            time.sleep(60)
        case ["stubborn"]:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            say("waiting")
            time.sleep(60)
        case ["child"]:
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            say(f"child {child.pid}")
            return 0
        case ["key"]:
            say("the key is " + os.environ["TAOMAGIC_KEY"])
            sys.stdout.write(os.environ["TAOMAGIC_KEY"][:4])
            sys.stdout.flush()
            time.sleep(0.3)
            say(os.environ["TAOMAGIC_KEY"][4:] + " in two pieces; arguments " + " ".join(sys.argv))
            time.sleep(1.0)
            return 0
        case ["where"]:
            say(f"cwd {Path.cwd()}")
            say(f"map {os.environ['LAUNCHER_MOUNTS']}")
            say(f"args {sys.argv[2:]!r}")
            return 0
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""The flags of ``tao key``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Final

from taomagic.spec.arguments_common import Subtask, add_key, add_verbose

__all__ = ["SUBTASKS"]


def _check(p: argparse.ArgumentParser) -> None:
    p.add_argument("file", metavar="FILE", help="the file; its content counts, not its name")
    add_key(p)
    add_verbose(p)


SUBTASKS: Final[Mapping[str, Subtask]] = {
    "check": Subtask(
        "Tell which kind of model file it is, and whether the key opens it. An encrypted file is read to\n"
        "its end, so damage is found, too.",
        "weights/resnet18_detector.tlt -k $KEY",
        _check,
    ),
}

"""`tao device bundle MODEL -o FOLDER`: let the embedded engine write a folder for a device."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from taomagic.launcher.engine_question import Question, answer


def run(args: Sequence[str], say: Callable[[str], None] = print) -> int:
    """Carry out `tao device …`, see :func:`answer`; the exit code is 0 where the bundle is written."""
    return answer(_BUNDLE, args, say)


def _words(wanted: argparse.Namespace) -> list[str]:
    # As one word each: a name that begins with a hyphen is no flag.
    words = [f"--output={wanted.output}", f"--data_type={wanted.data_type}"]
    for name in ("spec", "cal_cache_file"):
        if value := getattr(wanted, name):
            words.append(f"--{'experiment_spec' if name == 'spec' else name}={value}")
    words += [f"--{name}" for name in ("force", "verbose") if getattr(wanted, name)]
    return [*words, "--", wanted.model]


_BUNDLE = Question(
    "device", "bundle", "tao device bundle MODEL -o FOLDER", "Device bundle", "exports models", _words
)

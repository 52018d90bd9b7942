"""`tao device bundle MODEL -o FOLDER`: let the embedded engine write a folder for a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from taomagic.errors import UsageProblem
from taomagic.launcher.engine_question import ask_engine
from taomagic.spec.arguments import nearest, parser

_PREFIXES = {"ERROR: ": "Device bundle: ", "HINT: ": "Hint: "}


def run(args: Sequence[str], say: Callable[[str], None] = print) -> int:
    """Carry out `tao device …`.

    Parameters
    ----------
    args
        The words behind ``device``.
    say
        Shows a line.

    Returns
    -------
    int
        The exit code: 0 where the bundle is written.

    Raises
    ------
    UsageProblem
        A word is wrong or missing.
    EnvironmentProblem
        The engine's packages aren't installed.
    """
    if not args or args[0] != "bundle":
        near = nearest(args[0], ["bundle"]) if args else None
        raise UsageProblem(
            f"`tao device` doesn't know {args[0]}." if args else "`tao device` needs a word: bundle.",
            hint=("Did you mean bundle? " if near else "") + "tao device bundle MODEL -o FOLDER",
        )
    try:
        wanted = parser("device", "bundle").parse_args(list(args[1:]))
    except SystemExit as ended:  # argparse has printed its help
        return int(ended.code or 0)
    # As one word each: a name that begins with a hyphen is no flag.
    words = ["device", "bundle", f"--output={wanted.output}", f"--data_type={wanted.data_type}"]
    for name in ("spec", "cal_cache_file"):
        if value := getattr(wanted, name):
            words.append(f"--{'experiment_spec' if name == 'spec' else name}={value}")
    words += [f"--{name}" for name in ("force", "verbose") if getattr(wanted, name)]
    words += ["--", wanted.model]
    return ask_engine(words, wanted.key, say, _PREFIXES, "exports models")

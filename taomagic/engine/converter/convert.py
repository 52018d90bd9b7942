"""``tao converter``: an engine from any exported model."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Final

from taomagic.engine.converter.build import Source, prepare
from taomagic.engine.converter.command import check_precision, make_engine
from taomagic.engine.converter.engine_file import read_exported
from taomagic.engine.converter.runtime import Profile
from taomagic.engine.status import StatusLog
from taomagic.errors import UsageProblem
from taomagic.project.paths import PathMap

logger = logging.getLogger(__name__)

#: Where neither ``-m`` nor ``-p`` is given, as with NVIDIA's converter.
_MAX_BATCH_SIZE: Final = 16


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``converter``."""
    if args.input_order != "nchw":
        raise UsageProblem(
            f"-i {args.input_order}: exported models take images as N × C × H × W",
            where="converter",
            hint="Leave -i out.",
        )
    check_precision(args)
    status = StatusLog(None)
    name, shape, profile = _profile(args)
    source = prepare(
        read_exported(paths.to_host(args.model), args.key, shown_as=args.model),
        input_shape=shape,
        input_name=name,
        shown_as=args.model,
    )
    _check_outputs(source, args.output_names)
    target = _target(args, paths)
    status.write("STARTED", "Starting the conversion.")
    size = make_engine(args, paths, source, profile, target)
    status.write("SUCCESS", "Conversion finished successfully.", payload={"size": size})


def _profile(args: argparse.Namespace) -> tuple[str, tuple[int, ...] | None, Profile]:
    """Return the input's name (if it is given), its channels, height and width (if they are), and the batch sizes."""
    if not args.profiles:
        most = args.max_batch_size or _MAX_BATCH_SIZE
        return "", args.input_dims, Profile(1, most, most)
    images = [(name, shapes) for name, shapes in args.profiles if len(shapes[0]) == 4]
    if len(images) != 1 or len(args.profiles) > 1:
        raise UsageProblem(
            f"-p is given for {', '.join(name for name, _ in args.profiles)}; the embedded engine varies the number of "
            "images only",
            where="converter",
            hint="Give it once, for the input that takes the images: -p Input,1x3x300x300,8x3x300x300,16x3x300x300.",
        )
    ((name, shapes),) = images
    if len({shape[1:] for shape in shapes}) > 1:
        raise UsageProblem(
            f"-p: the shapes of {name} differ in more than the number of images",
            where="converter",
            hint="Build an engine for each size of image.",
        )
    shape = shapes[0][1:]
    if args.input_dims is not None and args.input_dims != shape:
        raise UsageProblem(
            f"-d says {','.join(map(str, args.input_dims))}, and -p {','.join(map(str, shape))}",
            where="converter",
            hint="Leave -d out.",
        )
    counts = Profile(*(each[0] for each in shapes))
    if not counts.min <= counts.opt <= counts.max:
        raise UsageProblem(
            f"-p: the smallest, usual and largest number of images are {counts.min}, {counts.opt} and {counts.max}",
            where="converter",
            hint="They must not decrease: -p Input,1x3x300x300,8x3x300x300,16x3x300x300.",
        )
    if args.max_batch_size not in {None, counts.max}:
        logger.warning(
            "-m %d is not used: -p says how many images the engine takes, %d to %d.",
            args.max_batch_size,
            counts.min,
            counts.max,
        )
    return name, shape, counts


def _check_outputs(source: Source, wanted: tuple[str, ...]) -> None:
    """Check that a model has the outputs that ``-o`` names. An engine keeps all of the model's."""
    present = [output.name for output in source.model.graph.output]
    # tf2onnx writes the port behind the name of a TensorFlow node.
    plain = {name.removesuffix(":0") for name in present}
    unknown = [name for name in wanted if name.removesuffix(":0") not in plain]
    if unknown:
        raise UsageProblem(
            f"-o: the model has no output {', '.join(unknown)}",
            where=source.shown_as,
            hint=f"Its outputs: {', '.join(present)}. Leave -o out to take them all.",
        )


def _target(args: argparse.Namespace, paths: PathMap) -> Path:
    target = paths.to_host(args.output)
    if target.is_dir():
        raise UsageProblem(
            "-e is a folder, and must be the engine to write", where=args.output, hint="Add a name to it."
        )
    if target.resolve() == paths.to_host(args.model).resolve():
        raise UsageProblem(
            "the engine would replace the model that it is built from",
            where=args.output,
            hint="Give -e another name.",
        )
    return target

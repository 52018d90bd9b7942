"""What ``export`` does for a device besides: a calibration, and an engine, in the same command.

TAO 3.x has it so; from 4.0 on it is ``tao deploy NETWORK gen_trt_engine``, and both do it by the same code.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from taomagic.engine.converter import tensorrt
from taomagic.engine.converter.build import prepare
from taomagic.engine.converter.command import check_precision, make_engine, wanted_profile
from taomagic.engine.converter.ranges import find_ranges, require_data
from taomagic.engine.converter.runtime import Profile
from taomagic.errors import UsageProblem
from taomagic.project.paths import PathMap

logger = logging.getLogger(__name__)

_GIBIBYTE: Final = 2**30
#: ``--max_workspace_size`` is GiB in TAO 5 and bytes in 3.x.
_MOST_GIBIBYTES: Final = 4096


def is_wanted(args: argparse.Namespace) -> bool:
    """Tell whether the command asks for a calibration or an engine."""
    return bool(args.engine_file) or args.data_type == "int8"


def check_wishes(
    args: argparse.Namespace,
    paths: PathMap,
    *,
    quantized: bool,
    folders: Sequence[str],
    only_tensorrt: str = "",
) -> None:
    """Refuse, before anything is written, what can't be built; say which flags have no effect.

    Parameters
    ----------
    args
        The parsed command.
    paths
        Container paths to host paths.
    quantized
        Whether the network is quantisation-aware, and so brings its scales.
    folders
        Image folders of the spec, with which a calibration can be made if nothing else is given.
    only_tensorrt
        The flag by which the model has operators that only TensorRT knows, if it has some.

    Raises
    ------
    UsageProblem
        Batch sizes in the wrong order; nothing to calibrate with; operators that nothing here runs.
    """
    if only_tensorrt and is_wanted(args):
        _check_tensorrt(args, only_tensorrt)
    check_precision(_for_engine(args))
    if args.data_type == "fp16" and not args.engine_file:
        logger.warning(
            "--data_type fp16 is for an engine, and there is no --engine_file: the exported model is in float32."
        )
    if not args.engine_file:
        for flag, given in (
            ("strict_type_constraints", args.strict_type_constraints),
            ("force_ptq", args.force_ptq and args.data_type != "int8"),
        ):
            if given:
                logger.warning("--%s is not used: there is no --engine_file.", flag)
    if args.engine_file:
        wanted_profile(args)
    brings_scales = quantized and not args.force_ptq
    cache = paths.to_host(args.cal_cache_file) if args.cal_cache_file else None
    given = args.cal_data_file or args.cal_image_dir or folders or (cache is not None and cache.is_file())
    if args.data_type == "int8" and not brings_scales and not given:
        raise UsageProblem(
            "--data_type int8 needs the ranges of the model's tensors, and nothing gives them",
            where=f"{args.task} export",
            hint="Give images with --cal_image_dir FOLDER, a tensor file with --cal_data_file FILE (detectnet_v2 "
            "calibration_tensorfile writes one), or an earlier cache with --cal_cache_file FILE.",
        )
    if args.data_type == "int8" and not brings_scales:
        require_data(args, paths, folders)


def _check_tensorrt(args: argparse.Namespace, flag: str) -> None:
    if args.data_type == "int8":
        raise UsageProblem(
            f"{flag} and --data_type int8 don't go together: calibration runs the model in ONNX Runtime, which lacks "
            "TensorRT's plugins",
            where=f"{args.task} export",
            hint="Leave --nms out; TensorRT runs the standard operators, too.",
        )
    if lacking := tensorrt.missing():
        raise UsageProblem(
            f"{flag} with --engine_file needs TensorRT, and {lacking}",
            where=f"{args.task} export",
            hint="Leave --engine_file out and build the engine where TensorRT is, or leave --nms out.",
        )


def build_engine(
    args: argparse.Namespace,
    paths: PathMap,
    model: bytes,
    *,
    target: Path,
    scales: Mapping[str, float],
    folders: Sequence[str],
) -> None:
    """Calibrate, and build an engine if ``--engine_file`` names one; :func:`check_wishes` has been called.

    Parameters
    ----------
    args
        The parsed command.
    paths
        Container paths to host paths.
    model
        The exported ONNX model.
    target
        Where it lies; without ``--cal_cache_file`` and ``--engine_file`` the cache goes beside it, as ``cal.bin``.
    scales
        Of a quantisation-aware network.
    folders
        Image folders of the spec, as written.
    """
    shown = str(paths.to_container(target))
    wishes = _for_engine(args)
    known = dict(scales) if scales and not args.force_ptq else None
    source = prepare(model, shown_as=shown)
    if not args.engine_file:
        cache = cache_of(args, paths, target)
        assert cache is not None
        wishes.cal_cache_file = str(paths.to_container(cache))
        find_ranges(wishes, paths, source, folders, scales=known)
        return
    engine = paths.to_host(args.engine_file)
    engine.parent.mkdir(parents=True, exist_ok=True)
    fixed = args.static_batch_size
    # A model of a fixed batch size takes no other, whatever the defaults of the batch sizes say.
    profile = Profile(fixed, fixed, fixed) if fixed > 0 else wanted_profile(args)
    make_engine(wishes, paths, source, profile, engine, folders, scales=known)


def cache_of(args: argparse.Namespace, paths: PathMap, target: Path) -> Path | None:
    """Return where the calibration cache goes; without ``--cal_cache_file`` an engine is built without one."""
    if args.cal_cache_file:
        return paths.to_host(args.cal_cache_file)
    return None if args.engine_file else target.with_name("cal.bin")


def _for_engine(args: argparse.Namespace) -> argparse.Namespace:
    """Return the flags as ``gen_trt_engine`` has them: there ``--cal_json_file`` is read, here it is written."""
    size = args.max_workspace_size
    return argparse.Namespace(
        **vars(args)
        | {
            "cal_json_file": "",
            "cal_method": "entropy",
            "runtime": "auto",
            "max_workspace_size": size * _GIBIBYTE if size <= _MOST_GIBIBYTES else size,
        }
    )

"""Where an int8 engine gets the ranges of its tensors from: a training, a calibration, or an earlier one's cache."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from taomagic.engine.console import progress, say
from taomagic.engine.converter.build import Source
from taomagic.engine.converter.calibration import calibrate
from taomagic.engine.converter.calibration_cache import (
    as_stored,
    check_cache,
    made_for,
    read_cache,
    read_scales,
    write_cache,
)
from taomagic.engine.converter.calibration_data import (
    Preparation,
    choose_images,
    first_batches,
    prepared_batches,
)
from taomagic.engine.converter.graph import tensors_to_calibrate
from taomagic.engine.data.tensorfile import read_batches, read_count, write_batches
from taomagic.errors import DataProblem, ModelFileProblem, UsageProblem
from taomagic.project.paths import PathMap

logger = logging.getLogger(__name__)

#: Share of the tensors that may lack a range in a cache whose model nobody knows: some are 0 throughout.
_MAY_LACK: Final = 0.1

Batches = Iterator[npt.NDArray[np.float32]]


def find_ranges(
    args: argparse.Namespace,
    paths: PathMap,
    source: Source,
    folders: Sequence[str] = (),
    *,
    scales: Mapping[str, float] | None = None,
) -> tuple[dict[str, float], str]:
    """Return the ranges of a model's tensors, and write them where that is asked for.

    In this order: the scales of a quantisation-aware training (``--cal_json_file``); images (``--cal_data_file``,
    ``--cal_image_dir``); a cache (``--cal_cache_file``); the images of the spec. All but a cache that is read are
    written to the cache.

    Parameters
    ----------
    args
        ``cal_json_file``, ``cal_data_file``, ``cal_image_dir``, ``cal_cache_file``, ``cal_method``, ``batches``,
        ``batch_size``, and perhaps ``force_ptq``.
    paths
        Container paths to host paths.
    source
        The model.
    folders
        Image folders of the spec, as written.
    scales
        Those of a quantisation-aware training, where they are at hand: they come first.

    Returns
    -------
    tuple of dict, str
        Largest magnitude by tensor, and where it comes from, for messages.

    Raises
    ------
    UsageProblem
        There is nothing to get them from.
    DataProblem, ModelFileProblem
        A file or an image can't be used.
    """
    cache = paths.to_host(args.cal_cache_file) if args.cal_cache_file else None
    if cache is not None:
        check_cache(cache, shown_as=args.cal_cache_file)
    force = getattr(args, "force_ptq", False)
    if args.cal_json_file and force:
        logger.info("--force_ptq: calibrating; the scales in %s aren't used.", args.cal_json_file)
    if scales is not None:
        ranges, origin = dict(scales), source.shown_as
        logger.info("Using the %d tensor scales of the quantisation-aware training.", len(ranges))
    elif args.cal_json_file and not force:
        ranges = read_scales(paths.to_host(args.cal_json_file), shown_as=args.cal_json_file)
        logger.info("%d tensor scales of a quantisation-aware training: %s.", len(ranges), args.cal_json_file)
        origin = args.cal_json_file
    elif args.cal_data_file or args.cal_image_dir:
        ranges, origin = _calibrated(args, paths, source)
    elif cache is not None and cache.is_file() and _belongs(cache, source, folders, args.cal_cache_file):
        logger.info("Reading the calibration cache %s.", args.cal_cache_file)
        ranges = read_cache(cache, shown_as=args.cal_cache_file)
        if made_for(cache) != source.fingerprint:
            _tell_lacking(source, ranges, args.cal_cache_file)
        return ranges, args.cal_cache_file
    elif folders:
        origin = ", ".join(folders)
        logger.info("Calibrating with images of the spec: %s.", origin)
        ranges = _of_images([paths.to_host(folder) for folder in folders], origin, args, source)
    else:
        missing = f" ({args.cal_cache_file} doesn't exist yet)" if cache is not None else ""
        raise UsageProblem(
            f"int8 needs the ranges of the model's tensors, and nothing gives them{missing}",
            where=f"{args.task} {args.subtask}".strip(),
            hint="Give images with --cal_image_dir FOLDER, a tensor file with --cal_data_file FILE, an earlier cache "
            "with --cal_cache_file FILE, or the scales of a training with enable_qat with --cal_json_file FILE.",
        )
    ranges = as_stored(ranges)
    if cache is not None:
        write_cache(cache, ranges, model=source.fingerprint)
        say(f"Saved: {paths.to_container(cache)}")
    return ranges, origin


def require_data(args: argparse.Namespace, paths: PathMap, folders: Sequence[str] = ()) -> None:
    """Raise early what :func:`find_ranges` would: what it is going to read isn't there.

    Raises
    ------
    DataProblem
        The tensor file, the folder or its images are missing, or a file can't be used.
    """
    file = paths.to_host(args.cal_data_file) if args.cal_data_file else None
    cache = paths.to_host(args.cal_cache_file) if args.cal_cache_file else None
    if cache is not None:
        check_cache(cache, shown_as=args.cal_cache_file)
    if file is not None and (file.exists() or not args.cal_image_dir):
        read_count(file, shown_as=args.cal_data_file)
    elif args.cal_image_dir:
        choose_images([paths.to_host(args.cal_image_dir)], 1, shown_as=args.cal_image_dir)
    elif cache is not None and cache.is_file():
        read_cache(cache, shown_as=args.cal_cache_file)
    elif folders:
        choose_images([paths.to_host(folder) for folder in folders], 1, shown_as=", ".join(folders))


def _belongs(cache: Path, source: Source, folders: Sequence[str], shown_as: str) -> bool:
    """Tell whether a cache may be used: it was made for this model, or nobody knows for which.

    Raises
    ------
    DataProblem
        It was made for another model, and there are no images to make a new one.
    """
    owner = made_for(cache)
    if owner == source.fingerprint:
        return True
    if not owner:
        logger.info(
            "Nothing says which model %s was made for; it is taken as it is. TensorRT's own caches are like that.",
            shown_as,
        )
        return True
    if folders:
        logger.warning(
            "%s was made for another model, perhaps an earlier training of this one; it is made anew.",
            shown_as,
        )
        return False
    raise DataProblem(
        "this calibration cache was made for another model, perhaps an earlier training of this one",
        where=shown_as,
        hint="Give the cache that was written with this model, or images with --cal_image_dir to make a new one.",
    )


def _tell_lacking(source: Source, ranges: Mapping[str, float], shown_as: str) -> None:
    """Warn of a cache that knows only a part of a model: networks share names of layers, but no ranges."""
    names = tensors_to_calibrate(source.simplified)
    lacking = sum(name not in ranges for name in names)
    if lacking > len(names) * _MAY_LACK:
        logger.warning(
            "%s has no range for %d of the model's %d tensors, which stay in floating point. If it is another "
            "model's, remove it and calibrate again.",
            shown_as,
            lacking,
            len(names),
        )


def _calibrated(args: argparse.Namespace, paths: PathMap, source: Source) -> tuple[dict[str, float], str]:
    """Calibrate with a tensor file, or with a folder of images, from which a tensor file is made if one is named."""
    file = paths.to_host(args.cal_data_file) if args.cal_data_file else None
    if args.cal_image_dir and (file is None or not file.exists()):
        folder = paths.to_host(args.cal_image_dir)
        if file is None:
            return _of_images([folder], args.cal_image_dir, args, source), args.cal_image_dir
        batches, count = _image_batches([folder], args.cal_image_dir, args, source)
        write_batches(
            file,
            progress(batches, "Preparing calibration images", count),
            name=source.input_name,
            shown_as=args.cal_data_file,
        )
        say(f"Saved: {paths.to_container(file)}")
    elif args.cal_image_dir:
        logger.info(
            "%s exists and is used; the images in %s aren't looked at. Remove it to make it anew.",
            args.cal_data_file,
            args.cal_image_dir,
        )
    assert file is not None
    stored = first_batches(
        read_batches(file, shown_as=args.cal_data_file), args.batches, shown_as=args.cal_data_file
    )
    return _run(stored, args.batches, args, source, args.cal_data_file), args.cal_data_file


def _of_images(
    folders: Sequence[Path], shown_as: str, args: argparse.Namespace, source: Source
) -> dict[str, float]:
    batches, count = _image_batches(folders, shown_as, args, source)
    return _run(batches, count, args, source, shown_as)


def _image_batches(
    folders: Sequence[Path], shown_as: str, args: argparse.Namespace, source: Source
) -> tuple[Batches, int]:
    prepare = Preparation.of(source.metadata, source.input_shape, shown_as=source.shown_as)
    files = choose_images(folders, args.batches * args.batch_size, shown_as=shown_as)
    return prepared_batches(files, prepare, args.batch_size), -(-len(files) // args.batch_size)


def _run(
    batches: Batches, count: int, args: argparse.Namespace, source: Source, shown_as: str
) -> dict[str, float]:
    _require_floats(source)
    return calibrate(
        source.simplified,
        progress(batches, "Calibrating", count),
        input_name=source.input_name,
        method=args.cal_method,
        batch=source.fixed_batch,
        shown_as=shown_as,
    )


def _require_floats(source: Source) -> None:
    """Refuse to calibrate a model whose images are in other numbers than ours."""
    entry = next(value for value in source.model.graph.input if value.name == source.input_name)
    kind = entry.type.tensor_type.elem_type
    if kind != TensorProto.FLOAT:
        raise ModelFileProblem(
            f"the model takes images in {TensorProto.DataType.Name(kind).lower()}, and calibrations have them in "
            "float32",
            where=source.shown_as,
            hint="Export it in float32, or give a finished cache with --cal_cache_file.",
        )

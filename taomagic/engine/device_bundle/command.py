"""``device bundle``: write a folder that runs where taomagic isn't."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import tempfile
from importlib import resources
from pathlib import Path
from string import Template

from taomagic import __version__
from taomagic.engine.console import say
from taomagic.engine.converter.calibration_cache import made_for, read_cache
from taomagic.engine.device_bundle.contents import Contents, contents_of, tensor_names
from taomagic.errors import DataProblem, UsageProblem
from taomagic.project.paths import PathMap

logger = logging.getLogger(__name__)

#: Files of ours that go along as they are.
PROGRAMS = ("run.py", "pictures.py", "objects.py", "tensorrt_engine.py")
_CACHE = "calibration.bin"
_ROOM = "taomagic.engine.device_bundle"


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``device bundle``; the flags are those of :mod:`taomagic.spec.arguments_device`."""
    # A link is followed, so that --force replaces the bundle and not the link to it.
    target = paths.to_host(args.output).absolute().resolve()
    _check_target(target, args, paths)
    if (args.data_type == "int8") != bool(args.cal_cache_file):
        raise UsageProblem(
            "--data_type int8 needs the ranges of the model's tensors, and nothing gives them"
            if args.data_type == "int8"
            else f"--cal_cache_file is for --data_type int8, and it is {args.data_type}",
            where="device bundle",
            hint="Give both: --data_type int8 --cal_cache_file FILE. `export --data_type int8` writes such a file.",
        )
    contents = contents_of(args, paths)
    cache = _calibration(args, paths, contents) if args.cal_cache_file else None
    target.parent.mkdir(parents=True, exist_ok=True)
    # Made beside its place, and moved there when it is whole.
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        _fill(partial, contents, args.data_type, cache)
        _put_in_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for note in contents.notes:
        logger.warning("%s", note)
    say(f"Saved: {paths.to_container(target)}")
    say("Copy this folder to the device; README.md in it tells the rest.")


def _check_target(target: Path, args: argparse.Namespace, paths: PathMap) -> None:
    """Refuse to write where something is that may be wanted."""
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists() and not args.force:
        raise UsageProblem(
            "there is something already, and it would be replaced",
            where=args.output,
            hint="Give -o another folder, or add --force to replace an earlier bundle.",
        )
    if target.exists() and not _is_bundle(target):
        raise UsageProblem(
            "--force replaces an earlier bundle, and this isn't one",
            where=args.output,
            hint="Give -o another folder.",
        )
    inside = [
        name
        for name in (args.model, args.spec, args.cal_cache_file)
        if name and paths.to_host(name).absolute().resolve().is_relative_to(target)
    ]
    if inside:
        raise UsageProblem(
            f"{inside[0]} lies in the folder that would be replaced",
            where=args.output,
            hint="Give -o another folder.",
        )


def _is_bundle(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and str(config.get("written_by", "")).startswith("taomagic ")


def _calibration(args: argparse.Namespace, paths: PathMap, contents: Contents) -> bytes:
    """Return the calibration cache, which has to be of this model."""
    path = paths.to_host(args.cal_cache_file)
    ranges = read_cache(path, shown_as=args.cal_cache_file)
    known = tensor_names(contents.source)
    if not known & set(ranges) or made_for(path) not in {"", contents.source.fingerprint}:
        raise DataProblem(
            "this calibration cache was made for another model, perhaps an earlier training of this one",
            where=args.cal_cache_file,
            hint="Give the cache that was made with this model (export or gen_trt_engine with --data_type int8).",
        )
    return path.read_bytes()


def _fill(folder: Path, contents: Contents, data_type: str, cache: bytes | None) -> None:
    """Write all files of a bundle."""
    folder.chmod(0o755)  # mkdtemp's folders are for their owner alone, and this one gets copied
    for name, content in contents.models.items():
        (folder / name).write_bytes(content)
    if cache is not None:
        (folder / _CACHE).write_bytes(cache)
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in contents.labels), encoding="utf-8")
    text = json.dumps(contents.config, indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(f"{text}\n", encoding="utf-8")
    ours = resources.files(_ROOM)
    for name in PROGRAMS:
        (folder / name).write_bytes((ours / name).read_bytes())
    name = "README.md" if contents.for_tensorrt else "README_onnxruntime.md"
    template = Template((ours / "templates" / name).read_text(encoding="utf-8"))
    (folder / "README.md").write_text(template.substitute(_words(contents, data_type)), encoding="utf-8")


def _words(contents: Contents, data_type: str) -> dict[str, str]:
    """Return what stands in the places of the README's template."""
    seen = contents.config["input"]
    size = f"{seen['channels']}x{seen['height']}x{seen['width']}"
    shape = f"{seen['name']}:1x{size}"
    # trtexec refuses shapes for a model of a fixed batch size.
    fixed = contents.source.fixed_batch is not None
    flags = [] if fixed else [f"--{kind}Shapes={shape}" for kind in ("min", "opt", "max")]
    flags += {"fp32": [], "fp16": ["--fp16"], "int8": ["--int8", "--fp16", f"--calib={_CACHE}"]}[data_type]
    network = {"ssd": "SSD", "detectnet_v2": "DetectNet_v2"}[contents.config["network"]]
    return {
        "network": network,
        "classes": ", ".join(contents.labels),
        "size": f"{seen['width']} × {seen['height']}",
        "version": __version__,
        "onnx": contents.for_tensorrt,
        "flags": " ".join(flags),
        "data_type": data_type,
        "oldest": _oldest(contents),
    }


def _oldest(contents: Contents) -> str:
    """Return the first release of TensorRT that reads the model."""
    if contents.config["network"] == "detectnet_v2":  # its parser reads operator set 13
        return "7.2"
    # EfficientNMS_TRT came with 8.0, a layer for ONNX's own NonMaxSuppression with 8.5.
    own = {node.op_type for node in contents.source.model.graph.node if node.domain}
    return "8.0" if own or contents.for_tensorrt == "model_tensorrt.onnx" else "8.5"


def _put_in_place(partial: Path, target: Path) -> None:
    """Give a finished folder its name; an earlier bundle of that name goes when the new one stands."""
    if not target.exists() or not any(target.iterdir()):
        partial.replace(target)
        return
    earlier = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".replaced", dir=target.parent))
    target.replace(earlier)
    try:
        partial.replace(target)
    except OSError:
        earlier.replace(target)
        raise
    shutil.rmtree(earlier, ignore_errors=True)

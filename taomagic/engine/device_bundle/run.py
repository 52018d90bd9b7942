#!/usr/bin/env python3
"""Finds objects in pictures, in folders of pictures and before a camera, with the model that lies beside this file.

Examples::

    python3 run.py pictures/
    python3 run.py street.jpg --model model.engine -o results
    python3 run.py camera:0 --frames 100

Needs NumPy and Pillow, and ONNX Runtime for a .onnx or TensorRT for an engine; a camera needs OpenCV.
Python 3.6 or newer.
"""

import argparse
import importlib
import json
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Images = npt.NDArray[np.float32]
    Outputs = dict[str, npt.NDArray[Any]]

HERE = Path(__file__).resolve().parent


def open_model(path: Path, config: "dict[str, Any]") -> "Callable[[Images], Outputs]":
    """Return a function from images [N, C, H, W] to the outputs by name."""
    if not path.is_file():
        raise SystemExit(f"{path}: there is no such file; README.md tells how to build an engine")
    if path.suffix != ".onnx":
        try:
            engine: Any = importlib.import_module("tensorrt_engine").Engine
        except ImportError as error:
            raise SystemExit(f"{path.name} needs TensorRT ({error}); a .onnx runs in ONNX Runtime") from error
        run: "Callable[[Images], Outputs]" = engine(str(path)).run
        return run
    if config["only_tensorrt"]:
        raise SystemExit(
            f"{path.name} has operators that only TensorRT knows: build an engine, see README.md"
        )
    try:
        import onnxruntime
    except ImportError as error:
        raise SystemExit(f"{path.name} needs ONNX Runtime: pip3 install onnxruntime ({error})") from error
    options = onnxruntime.SessionOptions()
    if config["bytes_overflow"] and platform.machine() == "x86_64":
        flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
        if "vnni" not in flags:
            options.add_session_config_entry("session.x64quantprecision", "1")
    known = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in known]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise SystemExit(f"ONNX Runtime can't load {path.name}: {error}") from error
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {config["input"]["name"]: images})))


def main() -> None:
    """Read the command line and go through the pictures."""
    parser = argparse.ArgumentParser(description="Find objects, draw them and write KITTI labels.")
    parser.add_argument("source", help="picture, folder of pictures, or camera:0")
    parser.add_argument("-o", "--output", default="results", help="folder for images/ and labels/ (results)")
    parser.add_argument("--model", help=".onnx or engine (the .onnx beside this file)")
    parser.add_argument("--threshold", type=float, help="least confidence of an object (config.json has one)")
    parser.add_argument("--frames", type=int, default=100, help="pictures of a camera, 0: until Ctrl-C (100)")
    args = parser.parse_args()
    sys.path.insert(0, str(HERE))  # for the files beside this one, with `python3 -I` too
    objects, pictures = (importlib.import_module(name) for name in ("objects", "pictures"))
    config = json.loads((HERE / "config.json").read_text(encoding="utf-8"))
    run = open_model(Path(args.model) if args.model else HERE / config["model"], config)
    threshold = config["threshold"] if args.threshold is None else args.threshold
    folders = [Path(args.output) / name for name in ("images", "labels")]
    source = Path(args.source).resolve()
    if folders[0].resolve() in (source, source.parent):
        raise SystemExit(f"The pictures with boxes would replace {args.source}: give another folder with -o")
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"{args.output} can't be written: {error}") from error
    times = []
    try:
        for name, picture in pictures.take(args.source, args.frames):
            moments = [time.perf_counter()]
            seen = pictures.prepare(picture, config)
            moments.append(time.perf_counter())
            outputs = run(seen)
            moments.append(time.perf_counter())
            found = []
            for number, score, box in zip(*objects.find(outputs, config)):
                if score >= threshold:
                    corners = (box * np.array(picture.size * 2, np.float32)).tolist()
                    entry = config["objects"][number]
                    found.append((entry["label"], tuple(entry["colour"]), corners, float(score)))
            moments.append(time.perf_counter())
            rows = [
                f"{label} 0.00 0 0.00 {' '.join(f'{side:.3f}' for side in box)}{' 0.00' * 7} {score:.3f}\n"
                for label, _, box, score in found
            ]
            (folders[1] / (Path(name).stem + ".txt")).write_text("".join(rows), encoding="utf-8")
            pictures.draw(picture, found)
            picture.save(str(folders[0] / name))
            steps = [1000 * (after - before) for before, after in zip(moments, moments[1:])]
            times.append(sum(steps))
            shares = "picture {:.1f}, network {:.1f}, boxes {:.1f}".format(*steps)
            print(f"{name}: {len(found)} objects, {times[-1]:.1f} ms ({shares})")
    except KeyboardInterrupt:
        print("Stopped.")
    if times:
        print(f"{len(times)} pictures, {np.median(times):.1f} ms each (median). Saved: {args.output}")


if __name__ == "__main__":
    main()

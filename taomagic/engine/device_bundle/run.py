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
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    Images = npt.NDArray[np.float32]
    Outputs = dict[str, npt.NDArray[Any]]

HERE = Path(__file__).resolve().parent
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm")
LANCZOS = 1  # Image.LANCZOS or Image.Resampling.LANCZOS, as Pillow's releases call it


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


def prepare(picture: Image.Image, config: "dict[str, Any]") -> "Images":
    """Return what the network sees of a picture, [N, C, H, W] float32; its shape isn't kept."""
    wanted = config["input"]
    small = picture.resize((wanted["width"], wanted["height"]), LANCZOS)
    levels = np.asarray(small.convert("L") if wanted["colours"] == "grey" else small, np.float32)
    levels = levels.reshape(wanted["height"], wanted["width"], -1)
    if wanted["colours"] == "BGR":
        levels = levels[:, :, ::-1]
    seen = (levels - np.array(wanted["mean"], np.float32)) * np.float32(wanted["scale"])
    return np.repeat(np.ascontiguousarray(seen.transpose(2, 0, 1))[None], wanted["batch"], axis=0)


def read_picture(path: Path) -> Image.Image:
    """Return a picture in colour; of one with 16 bits the upper eight count."""
    with Image.open(str(path)) as picture:
        if picture.mode.startswith("I"):
            return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
        return picture.convert("RGB")


def pictures(source: str, frames: int) -> "Iterator[tuple[str, Image.Image]]":
    """Yield names and pictures, of an image, a folder, or a camera (camera:0, or any address that OpenCV opens)."""
    if source.startswith("camera:"):
        yield from camera(source[len("camera:") :], frames)
        return
    path = Path(source)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    files = [each for each in files if each.suffix.lower() in SUFFIXES and each.is_file()]
    if not files:
        raise SystemExit(
            f"{source}: there is no such picture, or folder with pictures ({', '.join(SUFFIXES)})"
        )
    if len({each.stem for each in files}) < len(files):
        raise SystemExit(f"{source}: two pictures differ in their ending only, and would share a label file")
    for each in files:
        try:
            picture = read_picture(each)
        except (OSError, ValueError) as error:
            print(f"{each.name}: skipped, it can't be read ({error})", file=sys.stderr)
        else:
            yield each.name, picture


def camera(address: str, frames: int) -> "Iterator[tuple[str, Image.Image]]":
    """Yield pictures of a camera until there are enough (0: until Ctrl-C)."""
    try:
        import cv2
    except ImportError:
        raise SystemExit(
            "A camera needs OpenCV: sudo apt install python3-opencv. Pictures do without it."
        ) from None
    device = cv2.VideoCapture(int(address) if address.isdigit() else address)
    if not device.isOpened():
        raise SystemExit(f"camera:{address} can't be opened: is it connected, and used by nobody else?")
    number = 0
    while frames == 0 or number < frames:
        there, frame = device.read()
        if not there:
            raise SystemExit(f"camera:{address} gives no more pictures")
        number += 1
        yield f"frame_{number:06d}.jpg", Image.fromarray(np.ascontiguousarray(frame[:, :, ::-1]))


def draw(picture: Image.Image, found: "list[tuple[str, tuple[int, int, int], list[float], float]]") -> None:
    """Draw boxes and names into a picture."""
    canvas = ImageDraw.Draw(picture)
    for name, colour, (x1, y1, x2, y2), score in found:
        text, base = f"{name} {score:.2f}", max(y1 - 12, 0)
        canvas.rectangle([x1, y1, x2, y2], outline=colour)
        canvas.rectangle([x1, base, x1 + 6 * len(text) + 4, base + 12], fill=colour)
        canvas.text((x1 + 2, base), text, fill=(0, 0, 0) if sum(colour) > 400 else (255, 255, 255))


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
    objects = importlib.import_module("objects")
    config = json.loads((HERE / "config.json").read_text(encoding="utf-8"))
    run = open_model(Path(args.model) if args.model else HERE / config["model"], config)
    threshold = config["threshold"] if args.threshold is None else args.threshold
    folders = [Path(args.output) / name for name in ("images", "labels")]
    if folders[0].resolve() == Path(args.source).resolve():
        raise SystemExit(f"The pictures with boxes would replace {args.source}: give another folder with -o")
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    times = []
    try:
        for name, picture in pictures(args.source, args.frames):
            moments = [time.perf_counter()]
            seen = prepare(picture, config)
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
            draw(picture, found)
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

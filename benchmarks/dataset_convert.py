"""`dataset_convert` beside TensorFlow's TFRecord writer doing the same work, beside a plain loop, and beside copying.

    python3 -m venv VENV && VENV/bin/pip install tensorflow-cpu pillow         # optional, for that peer
    python benchmarks/dataset_convert.py [--tensorflow VENV/bin/python] [--network detectnet_v2] [--images 1000]
        [--rounds 5] [--png]

The data: KITTI-like images of 1242×375 (JPEG of about 110 KB, or PNG of about 900 KB) with 8 objects of 15 fields each.
The work: list, split and shuffle, read images and labels, look up each image's size in its header, build the same
features, write 10 shards; with SSD's records, which hold the pictures, their index files too. DetectNet_v2's hold none,
so there it is labels and sizes only. TensorFlow's side is written as TAO's converter does it, with `tf.train.Example`
and `tf.io.TFRecordWriter`, in an interpreter of its own that is told when to start, so that its import doesn't count.
The plain loop is the same code with protobuf's message and the crc32c package in place of TensorFlow.
Rounds alternate, files are in the page cache, results are compared record by record. Prints medians and their ratios.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from crc32c import crc32c

from taomagic.engine.data import example_pb2
from taomagic.engine.data.dataset_convert import convert
from taomagic.engine.data.record_forms import LabelRecords, PictureRecords
from taomagic.engine.data.tfrecord import parse_example, read_records
from taomagic.project.paths import PathMap
from taomagic.spec.dataset_export import DatasetExport, KittiExport

ROOT = "/workspace/data"
CLASSES = ("car", "cyclist", "pedestrian")
MESSAGES = ("BytesList", "Example", "Feature", "Features", "FloatList", "Int64List")

#: What both peers do; `Example` and so on come from TensorFlow or from protobuf alone.
LOOP = """
import os, random
from PIL import Image

IDS = {"car": 1, "cyclist": 2, "pedestrian": 3}
LISTS = ("truncation", "occlusion", "observation_angle", "coordinates_x1", "coordinates_y1", "coordinates_x2",
         "coordinates_y2", "world_bbox_h", "world_bbox_w", "world_bbox_l", "world_bbox_x", "world_bbox_y",
         "world_bbox_z", "world_bbox_rot_y")


def texts(values):
    return Feature(bytes_list=BytesList(value=values))


def floats(values):
    return Feature(float_list=FloatList(value=values))


def ints(values):
    return Feature(int64_list=Int64List(value=values))


def example_of(root, stem, suffix, pictures):
    path = f"{root}/image_2/{stem}{suffix}"
    with Image.open(path) as image:
        width, height = image.size
    with open(f"{root}/label_2/{stem}.txt") as file:
        rows = [line.split() for line in file if line.strip()]
    columns, names = {name: [] for name in LISTS}, []
    for row in rows:
        numbers = [float(text) for text in row[1:]]
        assert len(row) == 15
        name, (x1, y1, x2, y2) = row[0].lower(), numbers[3:7]
        if not (int(x1) < int(x2) and int(y1) < int(y2)) or (pictures and name not in IDS):
            continue
        names.append(name)
        if pictures:
            numbers[3:7] = x1 / width, y1 / height, x2 / width, y2 / height
        for column, value in zip(LISTS, numbers):
            columns[column].append(value)
    occlusion = columns.pop("occlusion")
    features = {f"target/{name}": floats(values) for name, values in columns.items()}
    features["target/occlusion"] = ints([int(value) for value in occlusion])
    features["frame/id"] = texts([f"image_2/{stem}".encode()])
    features["frame/width"], features["frame/height"] = ints([width]), ints([height])
    if pictures:
        with open(path, "rb") as file:
            features["frame/encoded"] = texts([file.read()])
        features["target/object_class_id"] = floats([IDS[name] for name in names])
    else:
        features["target/object_class"] = texts([name.encode() for name in names])
    return Example(features=Features(feature=features))


def convert(root, out, suffix, pictures):
    stems = sorted(name[: -len(suffix)] for name in os.listdir(root + "/image_2") if name.endswith(suffix))
    random.seed(42)
    held = int(0.2 * len(stems))
    parts = [stems[:held], stems[held:]]
    for _ in range(2):
        for part in parts:
            random.shuffle(part)
    for fold, part in enumerate(parts):
        size = len(part) // 10
        for shard in range(10):
            end = (shard + 1) * size if shard < 9 else len(part)
            path = f"{out}-fold-{fold:03d}-of-002-shard-{shard:05d}-of-00010"
            index, offset = [], 0
            with Writer(path) as writer:
                for stem in part[shard * size : end]:
                    record = example_of(root, stem, suffix, pictures).SerializeToString()
                    writer.write(record)
                    index.append(f"{offset} {len(record) + 16}\\n")
                    offset += len(record) + 16
            if pictures:
                folder, name = os.path.split(path)
                with open(f"{folder}/idx-{name}", "w") as file:
                    file.writelines(index)
"""

#: TensorFlow: waits for a line on standard input for each round, prints the seconds that it took.
TENSORFLOW = """
import sys, time
import tensorflow as tf
from tensorflow.train import BytesList, Example, Feature, Features, FloatList, Int64List

Writer = tf.io.TFRecordWriter
exec(sys.argv[1])
root, out, suffix, pictures = sys.argv[2:6]
print(tf.__version__, flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    convert(root, out, suffix, pictures == "ssd")
    print(time.perf_counter() - start, flush=True)
"""


class PlainWriter:
    """Frames records as the format wants it, with the crc32c package."""

    def __init__(self, path: str) -> None:
        self._file = Path(path).open("wb")  # noqa: SIM115 - closed with this

    def write(self, record: bytes) -> None:
        """Append a record."""
        length = len(record).to_bytes(8, "little")
        self._file.write(length + self._crc(length) + record + self._crc(record))

    @staticmethod
    def _crc(part: bytes) -> bytes:
        crc = crc32c(part)
        return (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")

    def __enter__(self) -> PlainWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def plain(root: Path, out: Path, suffix: str, network: str) -> float:
    """Convert by the plain loop; return the seconds."""
    names = {name: getattr(example_pb2, name) for name in MESSAGES} | {"Writer": PlainWriter}
    exec(LOOP, names)
    start = time.perf_counter()
    names["convert"](str(root), str(out), suffix, network == "ssd")
    return time.perf_counter() - start


def make_data(root: Path, count: int, suffix: str) -> int:
    """Write images and labels; return their bytes."""
    rng = np.random.default_rng(0)
    for folder in ("image_2", "label_2"):
        (root / folder).mkdir(parents=True)
    # Smooth noise under a little rough noise compresses about as well as a photograph.
    rough = rng.integers(-5, 6, (375, 1242, 3))
    quality = [cv2.IMWRITE_JPEG_QUALITY, 90]
    for number in range(count):
        smooth = cv2.resize(rng.integers(0, 256, (12, 40, 3), dtype=np.uint8), (1242, 375))
        image = np.clip(smooth + np.roll(rough, number, axis=1), 0, 255).astype(np.uint8)
        cv2.imwrite(str(root / f"image_2/{number:06d}{suffix}"), image, quality if suffix == ".jpg" else [])
        rows = []
        for _ in range(8):
            x, y = rng.uniform(0, 1000), rng.uniform(0, 250)
            name = ("Car", "Cyclist", "Pedestrian", "DontCare")[rng.integers(4)]
            box = f"{x:.2f} {y:.2f} {x + rng.uniform(9, 200):.2f} {y + rng.uniform(9, 100):.2f}"
            rows.append(f"{name} 0.00 {rng.integers(3)} -1.57 {box} 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59\n")
        (root / f"label_2/{number:06d}.txt").write_text("".join(rows))
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def ours(root: Path, out: Path, suffix: str, network: str) -> float:
    """Convert; return the seconds."""
    config = KittiExport(ROOT, "image_2", "label_2", suffix, "random", 2, 20.0, 10, None)
    export = DatasetExport(
        path="",
        text="",
        kitti=config,
        coco=None,
        class_mapping={name: name for name in CLASSES},
        classes=CLASSES,
    )
    form = PictureRecords.of(export) if network == "ssd" else LabelRecords()
    start = time.perf_counter()
    convert(export, out, paths=PathMap([(str(root), ROOT)]), form=form)
    return time.perf_counter() - start


def copy(root: Path, out: Path) -> float:
    """Copy the folder; return the seconds."""
    shutil.rmtree(out, ignore_errors=True)
    start = time.perf_counter()
    shutil.copytree(root, out)
    return time.perf_counter() - start


def read_through(root: Path, out: Path) -> float:
    """Read every file and write it into one: the least that any converter does; return the seconds."""
    start = time.perf_counter()
    with out.open("wb", buffering=0) as target:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                target.write(path.read_bytes())
    return time.perf_counter() - start


def check_equal(first: Path, second: Path) -> int:
    """Raise if two conversions differ in any record; return how many there are."""
    count = 0
    names = sorted(path.name for path in first.parent.iterdir())
    assert names == sorted(path.name for path in second.parent.iterdir())
    for name in names:
        if name.startswith("idx-"):
            assert (first.parent / name).read_text() == (second.parent / name).read_text()
            continue
        pairs = zip(read_records(first.parent / name), read_records(second.parent / name), strict=True)
        for (_, one), (_, other) in pairs:
            assert parse_example(one, "", 0) == parse_example(other, "", 0), name
            count += 1
    return count


def start_tensorflow(
    python: str, root: Path, out: Path, suffix: str, network: str
) -> tuple[str, subprocess.Popen[str]]:
    """Start TensorFlow's interpreter; return its release."""
    peer = subprocess.Popen(
        [python, "-c", TENSORFLOW, LOOP, str(root), str(out), suffix, network],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert peer.stdout is not None
    version = peer.stdout.readline().strip()
    if not version:
        sys.exit(f"{python} has no tensorflow and pillow; see --help")
    return version, peer


def ask(peer: subprocess.Popen[str]) -> float:
    """Let TensorFlow convert; return the seconds."""
    assert peer.stdin is not None
    assert peer.stdout is not None
    print("go", file=peer.stdin, flush=True)
    return float(peer.stdout.readline())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tensorflow", metavar="PYTHON", help="an interpreter that has it")
    parser.add_argument("--network", choices=("ssd", "detectnet_v2"), default="ssd", help="whose records")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--png", action="store_true", help="PNG in place of JPEG")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    suffix = ".png" if args.png else ".jpg"
    # In memory where possible: a disk would make all of them wait alike.
    place = "/dev/shm" if shutil.disk_usage("/dev/shm").free > 8 << 30 else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        root = Path(folder, "data")
        outs = {name: Path(folder, name, "kitti") for name in ("ours", "plain", "tensorflow")}
        for out in outs.values():
            out.parent.mkdir()
        size = make_data(root, args.images, suffix)
        print(f"{args.images} images, {size / args.images / 1000:.0f} KB each with its labels, on {folder}")
        works = {
            "dataset_convert": lambda: ours(root, outs["ours"], suffix, args.network),
            "plain loop": lambda: plain(root, outs["plain"], suffix, args.network),
        }
        if args.network == "ssd":  # without pictures, that would say nothing
            works["copying the folder"] = lambda: copy(root, Path(folder, "copy"))
            works["all files into one"] = lambda: read_through(root, Path(folder, "one"))
        peer = None
        if args.tensorflow:
            version, peer = start_tensorflow(args.tensorflow, root, outs["tensorflow"], suffix, args.network)
            works[f"TensorFlow {version}"] = lambda: ask(peer)
        seconds: dict[str, list[float]] = {}
        for number in range(args.rounds + 1):
            for name, work in works.items():
                took = work()
                if number:  # the first round fills caches
                    seconds.setdefault(name, []).append(took)
        count = check_equal(outs["ours"], outs["plain"])
        if peer is not None:
            assert peer.stdin is not None
            peer.stdin.close()
            peer.wait()
            check_equal(outs["ours"], outs["tensorflow"])
        print(f"{count} records are equal, feature by feature")
    mine = statistics.median(seconds["dataset_convert"])
    for name, values in seconds.items():
        median = statistics.median(values)
        spread = f"{min(values):.3f}…{max(values):.3f}"
        print(
            f"{name:<22}{median:8.3f} s ({spread}){args.images / median:8.0f} images/s{median / mine:7.2f} ×"
        )


if __name__ == "__main__":
    main()

"""`inference` end to end, beside a plain loop over the images and one over batches, with the same runtime.

    python benchmarks/inference.py [--images 48] [--repeats 3] [--kinds jpg png] [--networks ssd detectnet_v2]
                                   [--runtimes pytorch engine] [--width 0.25]

Scenes of 1242 × 375 pixels through a ResNet-10 of a quarter width at 480 × 160, batch 8: read, decode, resize, network,
suppression or clustering, draw, encode, write. The peers do these steps one after another, as a person would write it:
the first for each image, the second for each batch of eight. They call the very same functions, the network with all
cores, so that only the order differs. Label files have to be the same in the end.

The weights are random; thresholds are chosen so that about eight objects are drawn in each image.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from taomagic.engine.converter.build import build, prepare
from taomagic.engine.converter.runtime import OnnxEngine, Profile
from taomagic.engine.data.images import read
from taomagic.engine.detectnet_v2 import onnx_export as grid_export
from taomagic.engine.detectnet_v2 import predictor as grid_predictor
from taomagic.engine.detectnet_v2.inference import GridMarker
from taomagic.engine.detectnet_v2.model import Architecture as GridArchitecture
from taomagic.engine.detectnet_v2.model import DetectNet
from taomagic.engine.device import choose_device
from taomagic.engine.inference.annotator import Annotator, Marker
from taomagic.engine.inference.files import Outputs, encode, find_images
from taomagic.engine.inference.models import ExportedModel
from taomagic.engine.ssd import predictor as ssd_predictor
from taomagic.engine.ssd.inference import SSDMarker
from taomagic.engine.ssd.model import SSD, Architecture
from taomagic.engine.ssd.onnx_export import export_onnx
from taomagic.project.paths import PathMap
from taomagic.samples import create
from taomagic.spec.detectnet_v2 import read_inference
from taomagic.spec.ssd import read_experiment

BATCH = 8
OBJECTS = 8
SHAPE = (3, 160, 480)
CLASSES = ("car", "cyclist", "pedestrian")
SPEC = """
ssd_config { aspect_ratios_global: "[1.0, 2.0, 0.5]" scales: "[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]"
             variances: "[0.1, 0.1, 0.2, 0.2]" arch: "resnet" nlayers: 10 }
eval_config { validation_period_during_training: 1 batch_size: 8 matching_iou_threshold: 0.5 }
nms_config { confidence_threshold: 0.01 clustering_iou_threshold: 0.6 top_k: 200 }
augmentation_config { output_width: 480 output_height: 160 output_channel: 3 }
dataset_config { target_class_mapping { key: "car" value: "car" }
  target_class_mapping { key: "cyclist" value: "cyclist" }
  target_class_mapping { key: "pedestrian" value: "pedestrian" } }
"""
GRID_SPEC = Path(__file__).parent.parent / "specs/detectnet_v2/sample/detectnet_v2_inference_kitti_tlt.txt"

#: A marker for a model that has been opened anew.
Maker = Callable[[], Marker[Any]]


def ssd(runtime: str, folder: Path, width: float, files: Sequence[Path]) -> Maker:
    """Return what makes markers for an SSD."""
    (folder / "spec.txt").write_text(SPEC)
    experiment = read_experiment(folder / "spec.txt", purpose="inference", shown_as="spec.txt")
    assert experiment.nms is not None
    assert experiment.augmentation is not None
    nms, augmentation = experiment.nms, experiment.augmentation
    torch.manual_seed(0)
    architecture = replace(Architecture.from_experiment(experiment, CLASSES), width_multiplier=width)
    model = SSD(architecture).eval()
    with torch.no_grad():
        for level in range(6):  # sure of the background nearly everywhere, as trained networks are
            model.heads.get_parameter(f"ssd_conf_{level}.bias").view(-1, len(CLASSES) + 1)[:, 0] += 3.5
    device = choose_device()
    exported = export_onnx(model, experiment) if runtime == "engine" else b""
    device.place(model)

    def opened() -> ssd_predictor.Predictor:
        if runtime == "pytorch":
            return ssd_predictor.TorchPredictor(model, device, nms)
        return ssd_predictor.ExportedPredictor(engine(exported), "model")

    marker = SSDMarker(opened(), augmentation, 0.0)
    scores = [s for seen in samples(marker, files) for found in marker.find(seen) for s in found.scores]
    threshold = float(np.sort(scores)[-OBJECTS * BATCH])
    return lambda: SSDMarker(opened(), augmentation, threshold)


def detectnet_v2(runtime: str, _folder: Path, width: float, files: Sequence[Path]) -> Maker:
    """Return what makes markers for a DetectNet_v2."""
    settings = read_inference(GRID_SPEC, shown_as=str(GRID_SPEC))
    torch.manual_seed(0)
    model = DetectNet(GridArchitecture("resnet", 10, width, SHAPE, CLASSES, True, False, 35.0, 0.5)).eval()
    with torch.no_grad():
        model.heads.get_parameter("output_bbox.bias").fill_(1.0)  # boxes of 70 pixels
    device = choose_device()
    exported = grid_export.export_with_scales(model).model if runtime == "engine" else b""
    device.place(model)

    def opened() -> grid_predictor.Predictor:
        if runtime == "pytorch":
            return grid_predictor.TorchPredictor(model, device)
        return grid_predictor.ExportedPredictor(engine(exported), "model")

    # An object is two cells or more that are sure and whose boxes overlap by half.
    marker, sample = GridMarker(opened(), settings), opened()
    cells = np.concatenate([sample.raw(seen)[0].numpy().ravel() for seen in samples(marker, files)])
    threshold = float(np.sort(cells)[-16 * OBJECTS * BATCH])
    handlers = {
        name: replace(
            handler,
            clustering=replace(
                handler.clustering,
                coverage_threshold=threshold,
                dbscan_eps=0.5,
                dbscan_confidence_threshold=0.0,
                minimum_bounding_box_height=0,
            ),
        )
        for name, handler in settings.handlers.items()
    }
    chosen = replace(settings, handlers=handlers)
    return lambda: GridMarker(opened(), chosen)


NETWORKS: dict[str, Callable[[str, Path, float, Sequence[Path]], Maker]] = {
    "ssd": ssd,
    "detectnet_v2": detectnet_v2,
}


def engine(exported: bytes) -> ExportedModel:
    """Build a float32 engine, and open it."""
    header, payload = build(prepare(exported), "fp32", Profile(1, BATCH, BATCH))
    runner = OnnxEngine(payload, header.metadata(), profile=header.batch)
    return ExportedModel(runner, SHAPE, CLASSES, 0)


def samples(marker: Marker[Any], files: Sequence[Path]) -> list[torch.Tensor]:
    """Return a batch of images as the network sees them."""
    return [torch.from_numpy(np.stack([marker.see(read(path)) for path in files[:BATCH]]))]


def plain_loop(files: Sequence[Path], annotator: Annotator[Any], marker: Marker[Any], batch: int) -> None:
    """Do everything for an image, or a batch, before the next one is looked at."""
    cv2.setNumThreads(-1)
    for start in range(0, len(files), batch):
        images = [read(path) for path in files[start : start + batch]]
        found = marker.find(torch.from_numpy(np.stack([marker.see(image) for image in images])))
        for path, image, each in zip(files[start : start + batch], images, found, strict=True):
            annotator.write(path, image, each)


def seconds(call: Callable[[], object]) -> float:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        began = time.perf_counter()
        call()
        return time.perf_counter() - began


def measure(title: str, make: Maker, files: Sequence[Path], folder: Path, repeats: int) -> None:
    """Measure the three in turn, so that another load meets all; the first turn fills caches."""
    outputs = Outputs(folder / "pictures", folder / "labels")
    for results in outputs.folders:
        results.mkdir(exist_ok=True)
    alone, marker = make(), make()
    loop = Annotator(alone, outputs, PathMap())
    ours = Annotator(marker, outputs, PathMap())
    calls: dict[str, Callable[[], object]] = {
        "plain loop": lambda: plain_loop(files, loop, alone, 1),
        "in batches": lambda: plain_loop(files, loop, alone, BATCH),
        "taomagic": lambda: ours.annotate(files, BATCH),
    }
    times: dict[str, list[float]] = {each: [] for each in calls}
    rows: dict[str, list[tuple[str, ...]]] = {}
    for turn in range(repeats + 1):
        for each, call in calls.items():
            taken = seconds(call)
            if turn:
                times[each].append(taken)
            else:
                rows[each] = [classes_of(folder / "labels" / f"{path.stem}.txt") for path in files]
    assert rows["in batches"] == rows["taomagic"], "the results differ"
    median = {each: statistics.median(values) for each, values in times.items()}
    objects = sum(map(len, rows["taomagic"])) / len(files)
    speeds = "  ".join(f"{each} {len(files) / median[each]:5.1f}" for each in calls)
    print(
        f"{title:<28}{speeds} images/s   {median['plain loop'] / median['taomagic']:.2f} × the plain loop,"
        f" {median['in batches'] / median['taomagic']:.2f} × in batches   ({objects:.1f} objects an image)",
        flush=True,
    )


def classes_of(path: Path) -> tuple[str, ...]:
    """Return the classes of a label file; the last digits depend on how many threads add up."""
    return tuple(row.split()[0] for row in path.read_text().splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--width", type=float, default=0.25, help="of the network")
    parser.add_argument("--kinds", nargs="+", default=["jpg", "png"], choices=["jpg", "png"])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--runtimes", nargs="+", default=["pytorch", "engine"], choices=["pytorch", "engine"])
    given = parser.parse_args()
    print(
        f"{given.images} images, {choose_device().describe()}, width {given.width}, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        create(folder / "data", training=1, val=1, testing=given.images, size=(1242, 375), seed=1)
        sources = {"jpg": folder / "data/testing/image_2", "png": folder / "png"}
        sources["png"].mkdir()
        for path in sources["jpg"].iterdir():
            (sources["png"] / f"{path.stem}.png").write_bytes(encode(read(path), Path("x.png")))
        for network in given.networks:
            for runtime in given.runtimes:
                files = find_images(sources["jpg"], "-i")
                make = NETWORKS[network](runtime, folder, given.width, files)
                for kind in given.kinds:
                    files = find_images(sources[kind], "-i")
                    measure(f"{network}, {runtime}, {kind}", make, files, folder, given.repeats)


if __name__ == "__main__":
    main()

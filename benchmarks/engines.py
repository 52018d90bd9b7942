"""Engines beside the model that they are built from: build time, size, and speed at batch 1.

    python benchmarks/engines.py [--rounds 4] [--threads 1] [--networks ssd sample detectnet_v2]

The peer is ONNX Runtime with the exported model as it is, measured in turn with the engines in the same process. The
weights are random and the calibration's images noise: neither changes the time of an operator. What int8 does to the
average precision is measured on trained networks (`deploy NETWORK compare`).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from taomagic.engine.comparison.timing import in_turn
from taomagic.engine.converter.build import Profile, build, prepare
from taomagic.engine.converter.calibration import calibrate
from taomagic.engine.converter.processor import multiplies_bytes
from taomagic.engine.converter.runtime import OnnxEngine
from taomagic.engine.cores import usable_cores
from taomagic.engine.data.images import CAFFE_MEAN
from taomagic.engine.detectnet_v2.model import Architecture as DetectNetArchitecture
from taomagic.engine.detectnet_v2.model import DetectNet
from taomagic.engine.detectnet_v2.onnx_export import export_with_scales
from taomagic.engine.ssd.anchors import AnchorSettings
from taomagic.engine.ssd.model import SSD, Architecture
from taomagic.engine.ssd.onnx_export import export_onnx
from taomagic.spec.settings import NMSSettings, SSDExperiment, SSDModelSettings

CLASSES = ("car", "cyclist", "pedestrian")
CALIBRATION_IMAGES = 16


def ssd(shape: tuple[int, int, int], layers: int, width: float) -> bytes:
    """Export an SSD that is sure of the background nearly everywhere, as trained ones are."""
    anchors = AnchorSettings(
        aspect_ratios=((1.0, 2.0, 0.5, 3.0, 1 / 3),) * 6,
        scales=(0.05, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85),
        two_boxes_for_ar1=True,
        clip_boxes=False,
        variances=(0.1, 0.1, 0.2, 0.2),
    )
    torch.manual_seed(0)
    model = SSD(Architecture("resnet", layers, width, shape, CLASSES, anchors))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        model.train()(torch.randn(2, *shape) * 60)
        for level in range(6):
            model.heads[f"ssd_conf_{level}"].bias.data.view(-1, len(CLASSES) + 1)[:, 0] += 4.0
    settings = SSDModelSettings.__new__(SSDModelSettings)  # the export doesn't look at it
    nms = NMSSettings(0.01, 0.6, 200, 0)
    experiment = SSDExperiment("spec.txt", "", 42, settings, None, None, nms, None, None)
    return export_onnx(model.eval(), experiment)


def detectnet(shape: tuple[int, int, int]) -> bytes:
    """Export a DetectNet_v2 with a ResNet-18."""
    torch.manual_seed(0)
    model = DetectNet(DetectNetArchitecture("resnet", 18, 1.0, shape, CLASSES, True, False, 35.0, 0.5))
    with torch.no_grad():
        model.train()(torch.rand(2, *shape))
    return export_with_scales(model.eval()).model


NETWORKS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "ssd": ("SSD, ResNet-18, 300 × 300", lambda: ssd((3, 300, 300), 18, 1.0)),
    "wide": ("SSD, ResNet-18, 128 × 384", lambda: ssd((3, 128, 384), 18, 1.0)),
    "sample": ("SSD, ResNet-10 of a quarter width, 160 × 480", lambda: ssd((3, 160, 480), 10, 0.25)),
    "detectnet_v2": ("DetectNet_v2, ResNet-18, 384 × 1248", lambda: detectnet((3, 384, 1248))),
}


def measure(title: str, model: bytes, rounds: int, threads: int | None) -> None:
    source = prepare(model)
    random = np.random.default_rng(0)
    levels = random.uniform(0, 255, (CALIBRATION_IMAGES, *source.input_shape)).astype(np.float32)
    ssd_like = source.metadata["task"] == "ssd"
    images = levels - np.float32(CAFFE_MEAN[1]) if ssd_like else levels / 255
    engines = {"ONNX Runtime, exported model": (OnnxEngine.of_model(model, threads=threads), len(model), 0.0)}
    start = time.perf_counter()
    ranges = calibrate(source.simplified, [images], input_name=source.input_name)
    calibration_s = time.perf_counter() - start
    for precision in ("fp32", "fp16", "int8"):
        start = time.perf_counter()
        header, payload = build(source, precision, Profile(1, 1, 1), ranges)
        built_s = time.perf_counter() - start + (calibration_s if precision == "int8" else 0)
        engine = OnnxEngine(payload, header.metadata(), profile=header.batch, threads=threads)
        engines[f"{precision} engine"] = (engine, len(payload), built_s)
    calls = [partial(engine.run, images[:1]) for engine, _, _ in engines.values()]
    times = dict(zip(engines, in_turn(calls, rounds=rounds), strict=True))
    peer = statistics.median(next(iter(times.values())))
    print(f"\n{title}")
    for name, (_, size, built_s) in engines.items():
        median, least = statistics.median(times[name]), min(times[name])
        print(
            f"  {name:<30}{1000 * median:8.1f} ms (least {1000 * least:.1f})  {peer / median:5.2f} × the peer"
            f"  {size / 1e6:6.1f} MB" + (f"  built in {built_s:.1f} s" if built_s else "")
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    args = parser.parse_args()
    kind = "with" if multiplies_bytes() else "without"
    print(
        f"{args.threads or usable_cores()} threads, a processor {kind} VNNI, {CALIBRATION_IMAGES} calibration images"
    )
    for name in args.networks:
        title, export = NETWORKS[name]
        measure(title, export(), args.rounds, args.threads)


if __name__ == "__main__":
    main()

"""How long `export` takes for networks of NVIDIA's sizes, beside PyTorch's exporter alone.

    python benchmarks/export.py [--rounds 3]

Ours is tracing, the suppression (SSD), the metadata with a fingerprint of the weights, and ONNX's full check; the peer
is `torch.onnx.export` of the same network with the same settings. Threads: one.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

from taomagic.engine.detectnet_v2.model import Architecture as DetectNetArchitecture
from taomagic.engine.detectnet_v2.model import DetectNet
from taomagic.engine.detectnet_v2.onnx_export import export_with_scales
from taomagic.engine.ssd.anchors import AnchorSettings
from taomagic.engine.ssd.model import SSD, Architecture
from taomagic.engine.ssd.onnx_export import export_onnx
from taomagic.spec.settings import NMSSettings, SSDExperiment, SSDModelSettings

CLASSES = ("car", "cyclist", "pedestrian")
ANCHORS = AnchorSettings(
    ((1.0, 2.0, 0.5),) * 6, (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.05), two_boxes_for_ar1=True, clip_boxes=False,
    variances=(0.1, 0.1, 0.2, 0.2),
)  # fmt: skip


def timed(what: Callable[[], Any], rounds: int) -> float:
    """Return the median seconds."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        what()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def plain(model: torch.nn.Module, shape: tuple[int, int, int]) -> None:
    """Do what PyTorch's exporter does alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"images": {0: "N"}}
        torch.onnx.export(
            model.eval(), (torch.zeros(1, *shape),), io.BytesIO(), input_names=["images"], dynamic_axes=axes,
            opset_version=17, dynamo=False,
        )  # fmt: skip


def main() -> None:
    """Measure both networks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    nothing = SSDModelSettings.__new__(SSDModelSettings)  # the export doesn't look at it
    spec = SSDExperiment("", "", 42, nothing, None, None, NMSSettings(0.01, 0.6, 200, 0), None, None)
    ssd = SSD(Architecture("resnet", 18, 1.0, (3, 300, 300), CLASSES, ANCHORS))
    grid = DetectNet(
        DetectNetArchitecture("resnet", 18, 1.0, (3, 384, 1248), CLASSES, True, False, 35.0, 0.5)
    )
    print("| | ours, s | torch.onnx.export, s | ratio |")
    print("|---|---|---|---|")
    for title, model, export in (
        ("SSD, ResNet-18, 300 × 300", ssd, lambda: export_onnx(ssd, spec)),
        ("DetectNet_v2, ResNet-18, 1248 × 384", grid, lambda: export_with_scales(grid)),
    ):
        ours = timed(export, rounds)
        theirs = timed(lambda model=model: plain(model, model.architecture.input_shape), rounds)
        print(f"| {title} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} × |")


if __name__ == "__main__":
    main()

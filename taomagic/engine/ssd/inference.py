"""``ssd inference``: pictures with boxes, and KITTI labels, for a folder of images."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from taomagic.engine.console import progress, say
from taomagic.engine.data.images import preprocess, read, resize_lanczos
from taomagic.engine.device import choose_device
from taomagic.engine.ssd.evaluate import check_against_spec
from taomagic.engine.ssd.postprocess import Detections
from taomagic.engine.ssd.predictor import load_predictor
from taomagic.engine.status import StatusLog
from taomagic.errors import DataProblem, UsageProblem
from taomagic.project.paths import PathMap
from taomagic.spec.ssd import read_experiment

logger = logging.getLogger(__name__)

Image = npt.NDArray[np.uint8]

EXTENSIONS = {".jpg", ".jpeg", ".png"}
#: RGB colours of the classes, by id modulo 5: black, red, blue, gold, purple.
COLOURS = ((0, 0, 0), (255, 0, 0), (0, 0, 255), (255, 215, 0), (128, 0, 128))
#: Size in pixels of the name plate in a box's corner.
PLATE = (100, 10)

#: Coordinates beyond this many pixels are drawn here: far outside every picture, and near enough for OpenCV.
_FARTHEST = 30_000


@dataclass(frozen=True)
class Outputs:
    """Where the results go: ``None`` for a kind that was not asked for."""

    images: Path | None
    labels: Path | None


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``ssd inference``."""
    if not 0.0 < args.threshold < 1.0:
        raise UsageProblem(f"the threshold is {args.threshold}, allowed is 0 < t < 1", where="-t/--threshold")
    outputs = _outputs(args, paths)
    status = StatusLog(paths.to_host(args.results_dir) if args.results_dir else None)
    experiment = read_experiment(paths.to_host(args.spec), purpose="inference", shown_as=args.spec)
    assert experiment.evaluation is not None
    assert experiment.nms is not None
    assert experiment.augmentation is not None
    files = _find_images(paths.to_host(args.image_dir), args.image_dir)
    device = choose_device(args.gpu_index)
    predictor = load_predictor(
        paths.to_host(args.model), args.key, device, experiment.nms, shown_as=args.model
    )
    check_against_spec(predictor, experiment, args.model)
    status.write("STARTED", "Starting SSD inference.")
    logger.info("Inference of %d images with a %s on %s.", len(files), predictor.kind, device.describe())
    for folder in (outputs.images, outputs.labels):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    _, height, width = predictor.input_shape
    groups = list(_in_groups(files, args.batch_size or experiment.evaluation.batch_size))
    found = 0
    for group in progress(groups, "Running inference", len(groups)):
        images = [read(path, shown_as=paths.to_container(path)) for path in group]
        inputs = [
            preprocess(resize_lanczos(image, width, height), experiment.augmentation) for image in images
        ]
        for path, image, detections in zip(
            group, images, predictor.predict(torch.from_numpy(np.stack(inputs))), strict=True
        ):
            scale = np.array([image.shape[1] / width, image.shape[0] / height] * 2, dtype=np.float32)
            shown = detections.above(args.threshold)
            shown = Detections(shown.boxes * scale, shown.scores, shown.labels)
            found += len(shown)
            if outputs.labels is not None:
                text = kitti_labels(shown, predictor.classes)
                _replace(outputs.labels / f"{path.stem}.txt", text.encode())
            if outputs.images is not None:
                picture = draw(image, shown, predictor.classes)
                _replace(outputs.images / path.name, encode(picture, path))
    say(f"{found} objects in {len(files)} images above a confidence of {args.threshold:g}")
    for folder in (outputs.images, outputs.labels):
        if folder is not None:
            say(f"Saved: {paths.to_container(folder)}")
    status.write("SUCCESS", "Inference finished successfully.")


def _outputs(args: argparse.Namespace, paths: PathMap) -> Outputs:
    """Take the output folders from the flags of either generation: ``-o``/``-l``, or ``-r``."""
    results = paths.to_host(args.results_dir) if args.results_dir else None
    images = paths.to_host(args.image_output_dir) if args.image_output_dir else None
    labels = paths.to_host(args.label_output_dir) if args.label_output_dir else None
    if results is not None:
        images = images or results / "images_annotated"
        labels = labels or results / "labels"
    if images is None and labels is None:
        raise UsageProblem(
            "there is no place for the results",
            where="ssd inference",
            hint="Give -r DIR (images_annotated/ and labels/ in it), or -o DIR for pictures and -l DIR for labels.",
        )
    source = paths.to_host(args.image_dir)
    folder = source if source.is_dir() else source.parent
    if images is not None and images.resolve() == folder.resolve():
        raise UsageProblem(
            f"the annotated images would replace the originals in {paths.to_container(folder)}",
            where="ssd inference",
            hint="Give another folder with -o, or with -r.",
        )
    return Outputs(images, labels)


def _find_images(path: Path, shown_as: str) -> list[Path]:
    """Return the images of a folder, or the one image, sorted."""
    if path.is_file() and path.suffix.lower() in EXTENSIONS:
        return [path]
    if not path.is_dir():
        raise DataProblem("there is no such image or folder", where=shown_as, hint="Check -i.")
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in EXTENSIONS)
    if not files:
        raise DataProblem("this folder has no .jpg, .jpeg or .png image", where=shown_as, hint="Check -i.")
    return files


def _in_groups(files: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    for start in range(0, len(files), size):
        yield files[start : start + size]


def kitti_labels(detections: Detections, classes: tuple[str, ...]) -> str:
    """Return KITTI label lines with a 16th field, the confidence; boxes in the image's own pixels, unrounded."""
    lines = []
    for box, score, label in zip(detections.boxes, detections.scores, detections.labels, strict=True):
        corners = " ".join(str(float(v)) for v in box)
        lines.append(f"{classes[label - 1]} 0 0 0 {corners} 0 0 0 0 0 0 0 {float(score)}\n")
    return "".join(lines)


def draw(image: Image, detections: Detections, classes: tuple[str, ...]) -> Image:
    """Return a copy [H, W, 3] uint8 RGB of the image with boxes, class names and confidences."""
    canvas: Image = image.copy()
    for box, score, label in zip(detections.boxes, detections.scores, detections.labels, strict=True):
        # An untrained network's boxes may be endless, or no numbers; OpenCV draws what fits into 16 bits.
        x1, y1, x2, y2 = np.rint(np.clip(np.nan_to_num(box), -_FARTHEST, _FARTHEST)).astype(int).tolist()
        colour = COLOURS[int(label) % len(COLOURS)]
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, 1)
        cv2.rectangle(canvas, (x1, y1), (x1 + PLATE[0], y1 + PLATE[1]), colour, cv2.FILLED)
        text = f"{classes[int(label) - 1]}: {score:.2f}"
        ink = (0, 0, 0) if sum(colour) > 400 else (255, 255, 255)
        cv2.putText(canvas, text, (x1 + 2, y1 + 9), cv2.FONT_HERSHEY_SIMPLEX, 0.35, ink, 1, cv2.LINE_AA)
    return canvas


def encode(image: Image, path: Path) -> bytes:
    """Return an RGB image as a file of the kind that the name of ``path`` says."""
    ok, data = cv2.imencode(path.suffix.lower(), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not ok:
        raise DataProblem("this picture can't be encoded", where=str(path))
    return bytes(data.tobytes())


def _replace(path: Path, content: bytes) -> None:
    """Write a small file in one step. Not forced to the disk: thousands follow, and all can be made again."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_bytes(content)
    temporary.replace(path)

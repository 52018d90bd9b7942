"""``ssd inference``: pictures with boxes, and KITTI labels, for a folder of images."""

from __future__ import annotations

import argparse
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch

from taomagic.engine.console import progress, say
from taomagic.engine.data.images import preprocess, read, resize_lanczos
from taomagic.engine.device import choose_device
from taomagic.engine.ssd.evaluate import check_against_spec, log_notes
from taomagic.engine.ssd.postprocess import Detections
from taomagic.engine.ssd.predictor import Predictor, announcement, load_predictor
from taomagic.engine.status import StatusLog
from taomagic.errors import DataProblem, UsageProblem
from taomagic.project.paths import PathMap
from taomagic.spec.settings import AugmentationSettings
from taomagic.spec.ssd import read_experiment

logger = logging.getLogger(__name__)

Image = npt.NDArray[np.uint8]
T = TypeVar("T")
R = TypeVar("R")

EXTENSIONS = {".jpg", ".jpeg", ".png"}
#: RGB colours of the classes, by id modulo 5: black, red, blue, gold, purple.
COLOURS = ((0, 0, 0), (255, 0, 0), (0, 0, 255), (255, 215, 0), (128, 0, 128))
#: Size in pixels of the name plate in a box's corner.
PLATE = (100, 10)

#: Coordinates beyond this many pixels are drawn here: far outside every picture, and near enough for OpenCV.
_FARTHEST = 30_000
#: Batches that are decoded while the network looks at another one.
_AHEAD = 2
#: So many images are named in the message about those that can't be used; the log names all.
_NAMED = 5


@dataclass(frozen=True)
class Outputs:
    """Where the results go: ``None`` for a kind that was not asked for."""

    images: Path | None
    labels: Path | None


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``ssd inference``; the flags are those of :mod:`taomagic.spec.arguments`, checked there."""
    outputs = _outputs(args, paths)
    status = StatusLog(paths.to_host(args.results_dir) if args.results_dir else None)
    experiment = read_experiment(paths.to_host(args.spec), purpose="inference", shown_as=args.spec)
    log_notes(experiment, "eval_config", "nms_config", "augmentation_config")
    assert experiment.evaluation is not None
    assert experiment.nms is not None
    assert experiment.augmentation is not None
    files = find_images(paths.to_host(args.image_dir), args.image_dir)
    if outputs.labels is not None:
        refuse_shared_labels(files, args.image_dir)
    device = choose_device(args.gpu_index)
    predictor = load_predictor(
        paths.to_host(args.model), args.key, device, experiment.nms, shown_as=args.model
    )
    check_against_spec(predictor, experiment, args.model)
    status.write("STARTED", "Starting SSD inference.")
    batch_size = args.batch_size or experiment.evaluation.batch_size
    logger.info("%s; %d images.", announcement(predictor, device, batch_size), len(files))
    for folder in (outputs.images, outputs.labels):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    annotator = Annotator(predictor, experiment.augmentation, outputs, args.threshold, paths)
    found, unusable = annotator.annotate(files, batch_size)
    usable = len(files) - len(unusable)
    images = "image" if usable == 1 else "images"
    say(f"{found} objects in {usable} {images} at a confidence of {args.threshold:g} or more")
    for folder in (outputs.images, outputs.labels):
        if folder is not None:
            say(f"Saved: {paths.to_container(folder)}")
    if unusable:
        named = ", ".join(paths.to_container(path) for path in unusable[:_NAMED])
        more = f" and {len(unusable) - _NAMED} more" if len(unusable) > _NAMED else ""
        raise DataProblem(
            f"{len(unusable)} of {len(files)} images can't be used: {named}{more}",
            where=args.image_dir,
            hint="The others are done. Replace or remove these; the log says what is wrong with each.",
        )
    status.write("SUCCESS", "Inference finished successfully.")


def _outputs(args: argparse.Namespace, paths: PathMap) -> Outputs:
    """Take the output folders from the flags of either generation: ``-o``/``-l``, or ``-r``."""
    results = paths.to_host(args.results_dir) if args.results_dir else None
    images = paths.to_host(args.image_output_dir) if args.image_output_dir else None
    labels = paths.to_host(args.label_output_dir) if args.label_output_dir else None
    if results is not None:
        images = images or results / "images_annotated"
        labels = labels or results / "labels"
    source = paths.to_host(args.image_dir)
    folder = source if source.is_dir() else source.parent
    if images is not None and images.resolve() == folder.resolve():
        raise UsageProblem(
            f"the annotated images would replace the originals in {paths.to_container(folder)}",
            where="ssd inference",
            hint="Give another folder with -o, or with -r.",
        )
    return Outputs(images, labels)


def find_images(path: Path, shown_as: str) -> list[Path]:
    """Return the images of a folder (not of the folders in it), or the one image, sorted.

    Raises
    ------
    DataProblem
        There are none.
    """
    if path.is_file():
        if path.suffix.lower() in EXTENSIONS:
            return [path]
        raise DataProblem("this is no .jpg, .jpeg or .png image", where=shown_as, hint="Check -i.")
    if not path.is_dir():
        raise DataProblem("there is no such image or folder", where=shown_as, hint="Check -i.")
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in EXTENSIONS and p.is_file())
    if files:
        return files
    deeper = next((p for p in sorted(path.glob("*/*")) if p.suffix.lower() in EXTENSIONS), None)
    if deeper is not None:
        hint = f"Its folders have images, and aren't searched: give one of them, {deeper.parent.name} for example."
    else:
        hint = "Check -i."
    raise DataProblem("this folder has no .jpg, .jpeg or .png image", where=shown_as, hint=hint)


def refuse_shared_labels(files: Sequence[Path], shown_as: str) -> None:
    """Raise where two images differ in their ending only, so that one's label file would replace the other's.

    Raises
    ------
    DataProblem
        With the names of two.
    """
    first: dict[str, Path] = {}
    for path in files:
        other = first.setdefault(path.stem, path)
        if other is not path:
            raise DataProblem(
                f"{other.name} and {path.name} would have the same label file, {path.stem}.txt",
                where=shown_as,
                hint="Rename one of them, or leave the labels out: -o FOLDER without -l and -r.",
            )


@dataclass(frozen=True)
class _Picture:
    """An image ready for the network: as it is [H, W, 3], and as the network sees it [C, h, w] float32."""

    path: Path
    image: Image
    seen: npt.NDArray[np.float32]


class Annotator:
    """Finds objects in files, draws and lists them.

    While the network looks at a batch, threads decode the next ones and draw, encode and write the one before: on large
    images that is most of the work, and OpenCV and Pillow do it without Python's lock.

    Parameters
    ----------
    predictor
        Finds the objects.
    settings
        ``augmentation_config``: what the network sees of an image.
    outputs
        Folders, which exist.
    threshold
        Detections below it are left out.
    paths
        For the names in messages.
    workers
        Threads for everything but the network; by default the cores that this process may use, up to eight.
    """

    def __init__(
        self,
        predictor: Predictor,
        settings: AugmentationSettings,
        outputs: Outputs,
        threshold: float,
        paths: PathMap,
        *,
        workers: int | None = None,
    ) -> None:
        self._predictor = predictor
        self._settings = settings
        self._outputs = outputs
        self._threshold = threshold
        self._paths = paths
        self._workers = workers or min(8, _usable_cores())

    def annotate(self, files: Sequence[Path], batch_size: int) -> tuple[int, list[Path]]:
        """Go through all files; return the number of objects, and the files that are no usable images."""
        # The threads below are those that the machine has cores for; OpenCV needs none of its own.
        cv2.setNumThreads(1)
        groups = [files[start : start + batch_size] for start in range(0, len(files), batch_size)]
        unusable: list[Path] = []
        found = 0
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="taomagic-images")
        writing: list[Future[int]] = []
        try:
            ready = _ahead(pool, self._prepare, groups, _AHEAD)
            for group, read_group in zip(
                groups, progress(ready, "Running inference", len(groups)), strict=True
            ):
                pictures = [picture for picture in read_group if picture is not None]
                unusable += [path for path, picture in zip(group, read_group, strict=True) if picture is None]
                if not pictures:
                    continue
                seen = torch.from_numpy(np.stack([picture.seen for picture in pictures]))
                detections = self._predictor.predict(seen)
                # Written before the next batch is handed out, so that no more than two wait in memory.
                found += sum(future.result() for future in writing)
                writing = [
                    pool.submit(self.write, picture.path, picture.image, each)
                    for picture, each in zip(pictures, detections, strict=True)
                ]
            found += sum(future.result() for future in writing)
        finally:
            pool.shutdown(cancel_futures=True)
        return found, unusable

    def _prepare(self, path: Path) -> _Picture | None:
        """Read an image; ``None``, and a warning, where that can't be done."""
        try:
            image = read(path, shown_as=self._paths.to_container(path))
        except DataProblem as problem:
            logger.warning("%s: %s", problem.where, problem.message)
            return None
        channels, height, width = self._predictor.input_shape
        resized = resize_lanczos(image, width, height, grey=channels == 1)
        return _Picture(path, image, preprocess(resized, self._settings))

    def write(self, path: Path, image: Image, detections: Detections) -> int:
        """Write label file and annotated image of one image, and return how many objects they have.

        Parameters
        ----------
        path
            Gives the names.
        image
            [H, W, 3] uint8 RGB, as it was read.
        detections
            In pixels of the network's input.
        """
        _, height, width = self._predictor.input_shape
        scale = np.array([image.shape[1] / width, image.shape[0] / height] * 2, dtype=np.float32)
        shown = detections.at_least(self._threshold)
        shown = Detections(shown.boxes * scale, shown.scores, shown.labels)
        if self._outputs.labels is not None:
            text = kitti_labels(shown, self._predictor.classes)
            _replace(self._outputs.labels / f"{path.stem}.txt", text.encode())
        if self._outputs.images is not None:
            annotated = draw(image, shown, self._predictor.classes)
            _replace(self._outputs.images / path.name, encode(annotated, path))
        return len(shown)


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[T], R], groups: Sequence[Sequence[T]], ahead: int
) -> Iterator[list[R]]:
    """Yield the results for each group in order, while the pool works on the next ones."""
    waiting: deque[list[Future[R]]] = deque()
    for group in groups:
        waiting.append([pool.submit(work, item) for item in group])
        if len(waiting) > ahead:
            yield [future.result() for future in waiting.popleft()]
    while waiting:
        yield [future.result() for future in waiting.popleft()]


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def kitti_labels(detections: Detections, classes: tuple[str, ...]) -> str:
    """Return KITTI label lines with a 16th field, the confidence; boxes in the image's own pixels, unrounded."""
    lines = []
    for box, score, label in zip(detections.boxes, detections.scores, detections.labels, strict=True):
        # As float32 prints itself: the digits that mean something, no more.
        corners = " ".join(map(str, box))
        lines.append(f"{classes[label - 1]} 0 0 0 {corners} 0 0 0 0 0 0 0 {score!s}\n")
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

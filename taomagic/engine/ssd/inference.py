"""``ssd inference``: pictures with boxes, and KITTI labels, for a folder of images."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from taomagic.engine.data.images import Image, preprocess, resize_lanczos
from taomagic.engine.data.resizing import Resize
from taomagic.engine.device import choose_device
from taomagic.engine.inference.annotator import annotate_files
from taomagic.engine.inference.files import Outputs, find_images, refuse_shared_labels
from taomagic.engine.inference.marks import Marks, drawable, ink_on, put_text
from taomagic.engine.inference.predictor import announcement
from taomagic.engine.ssd.evaluate import check_against_spec, log_notes
from taomagic.engine.ssd.postprocess import Detections
from taomagic.engine.ssd.predictor import Predictor, load_predictor
from taomagic.engine.status import StatusLog
from taomagic.project.paths import PathMap
from taomagic.spec.settings import AugmentationSettings
from taomagic.spec.ssd import read_experiment

logger = logging.getLogger(__name__)

#: RGB colours of the classes, by id modulo 5: black, red, blue, gold, purple.
COLOURS = ((0, 0, 0), (255, 0, 0), (0, 0, 255), (255, 215, 0), (128, 0, 128))
#: Size in pixels of the name plate in a box's corner.
PLATE = (100, 10)


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
        hint = "Rename one of them, or leave the labels out: -o FOLDER without -l and -r."
        refuse_shared_labels(files, args.image_dir, hint)
    device = choose_device(args.gpu_index)
    predictor = load_predictor(
        paths.to_host(args.model), args.key, device, experiment.nms, shown_as=args.model
    )
    check_against_spec(predictor, experiment, args.model)
    status.write("STARTED", "Starting SSD inference.")
    batch_size = args.batch_size or experiment.evaluation.batch_size
    logger.info("%s; images: %d.", announcement(predictor, batch_size), len(files))
    annotate_files(
        SSDMarker(predictor, experiment.augmentation, args.threshold),
        files,
        outputs,
        paths,
        batch_size=batch_size,
        at=f"at a confidence of {args.threshold:g} or more",
        shown_as=args.image_dir,
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
    outputs = Outputs(images, labels)
    outputs.refuse_originals(
        paths.to_host(args.image_dir),
        paths,
        where="ssd inference",
        hint="Give another folder with -o, or with -r.",
    )
    return outputs


def seen_of(
    image: Image, shape: tuple[int, int, int], settings: AugmentationSettings, resize: Resize
) -> npt.NDArray[np.float32]:
    """Return what a network of this input shape sees of an image [H, W, 3] uint8: without the mean, [C, h, w]."""
    channels, height, width = shape
    return preprocess(resize(image, width, height, grey=channels == 1), settings)


class SSDMarker:
    """SSD for :class:`~taomagic.engine.inference.annotator.Annotator`.

    Parameters
    ----------
    predictor
        Finds the objects.
    settings
        ``augmentation_config``: what the network sees of an image.
    threshold
        Detections below it are left out.
    resize
        How an image gets to the network's size.
    """

    def __init__(
        self,
        predictor: Predictor,
        settings: AugmentationSettings,
        threshold: float,
        *,
        resize: Resize = resize_lanczos,
    ) -> None:
        self._predictor = predictor
        self.input_shape = predictor.input_shape
        self._settings = settings
        self._threshold = threshold
        self._resize = resize

    def share(self, callers: int, /) -> int:
        """Prepare for calls of :meth:`find` by so many threads at once; return how many may."""
        return self._predictor.share(callers)

    def see(self, image: Image) -> npt.NDArray[np.float32]:
        """Return what the network sees of an image: resized, without the mean."""
        return seen_of(image, self.input_shape, self._settings, self._resize)

    def find(self, images: Tensor) -> Sequence[Detections]:
        """Return the detections in each image, in pixels of the network's input."""
        return self._predictor.predict(images)

    def mark(self, image: Image, found: Detections) -> Marks:
        """Return the objects of an image, in its own pixels."""
        _, height, width = self.input_shape
        scale = np.array([image.shape[1] / width, image.shape[0] / height] * 2, dtype=np.float32)
        shown = found.at_least(self._threshold)
        return Marks(
            shown.boxes * scale,
            shown.scores,
            [self._predictor.classes[label - 1] for label in shown.labels],
            [COLOURS[label % len(COLOURS)] for label in shown.labels],
        )

    def list_rows(self, marks: Marks) -> str:
        """Return KITTI label rows; boxes in the image's own pixels, unrounded."""
        rows = []
        for box, score, name in zip(marks.boxes, marks.scores, marks.names, strict=True):
            # As float32 prints itself: the digits that mean something, no more.
            corners = " ".join(map(str, box))
            rows.append(f"{name} 0 0 0 {corners} 0 0 0 0 0 0 0 {score!s}\n")
        return "".join(rows)

    def draw(self, image: Image, marks: Marks) -> Image:
        """Return a copy of the image with boxes, class names and confidences."""
        canvas: Image = image.copy()
        for box, score, name, colour in zip(
            marks.boxes, marks.scores, marks.names, marks.colours, strict=True
        ):
            x1, y1, x2, y2 = drawable(box)
            cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, 1)
            cv2.rectangle(canvas, (x1, y1), (x1 + PLATE[0], y1 + PLATE[1]), colour, cv2.FILLED)
            put_text(canvas, f"{name}: {score:.2f}", (x1 + 2, y1 + 9), 0.35, ink_on(colour))
        return canvas

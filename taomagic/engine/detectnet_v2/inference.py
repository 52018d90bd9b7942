"""``detectnet_v2 inference``: pictures with boxes, and KITTI labels, for a folder of images."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from taomagic.engine.data.images import Image, resize_lanczos
from taomagic.engine.data.resizing import Resize
from taomagic.engine.detectnet_v2.clustering import Detections
from taomagic.engine.detectnet_v2.detector import Detector
from taomagic.engine.detectnet_v2.predictor import Predictor, open_predictor
from taomagic.engine.detectnet_v2.targets import STRIDE
from taomagic.engine.device import choose_device
from taomagic.engine.inference.annotator import annotate_files
from taomagic.engine.inference.files import Outputs, find_images, refuse_shared_labels
from taomagic.engine.inference.marks import Marks, drawable, ink_on, kitti_rows, put_text
from taomagic.engine.inference.predictor import announcement
from taomagic.engine.status import StatusLog
from taomagic.errors import ModelFileProblem, SpecProblem
from taomagic.project.paths import PathMap
from taomagic.spec.detectnet_v2 import read_inference
from taomagic.spec.settings_detectnet_v2 import InferenceSettings

logger = logging.getLogger(__name__)

#: Endings that count as images, in lower case.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm")
#: Which objects are shown, in words.
ABOVE = "above the confidence thresholds of the inference file"
#: Of the text beside a box, of OpenCV's own size.
_TEXT_SIZE = 0.4
#: Pixels around the text.
_MARGIN = 2


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``detectnet_v2 inference``; the flags are those of :mod:`taomagic.spec.arguments_detectnet_v2`."""
    status = StatusLog(paths.to_host(args.results_dir))
    settings = read_settings(args, paths)
    outputs, files = places_of(args, paths, settings)
    model = args.model or model_of(settings, paths)
    device = choose_device(args.gpu_index or [settings.gpu_index])
    predictor = open_predictor(paths.to_host(model), args.key, device, shown_as=model)
    check_against_spec(predictor, settings, model)
    batch_size = args.batch_size or settings.batch_size
    status.write("STARTED", "Starting DetectNet_v2 inference.")
    logger.info("%s; images: %d.", announcement(predictor, batch_size), len(files))
    annotate_files(
        GridMarker(predictor, settings),
        files,
        outputs,
        paths,
        batch_size=batch_size,
        at=ABOVE,
        shown_as=args.image_dir,
    )
    status.write("SUCCESS", "Inference finished successfully.")


def read_settings(args: argparse.Namespace, paths: PathMap) -> InferenceSettings:
    """Read the inference file, and log what is to be said about it."""
    settings = read_inference(paths.to_host(args.spec), shown_as=args.spec)
    for note in settings.notes:
        logger.info("%s: %s", settings.path, note)
    return settings


def places_of(
    args: argparse.Namespace, paths: PathMap, settings: InferenceSettings
) -> tuple[Outputs, list[Path]]:
    """Return the folders that the inference file asks for, and the images, which the results must not replace.

    Raises
    ------
    SpecProblem
        The file asks for no results.
    DataProblem, UsageProblem
        There are no images, or results would replace something.
    """
    if not settings.overlay and not settings.kitti_dump:
        raise SpecProblem(
            "the file asks for no results: disable_overlay is true and kitti_dump isn't",
            path=settings.path,
            hint="Set kitti_dump: true for label files, or disable_overlay: false for pictures.",
        )
    results_dir, source = paths.to_host(args.results_dir), paths.to_host(args.image_dir)
    outputs = Outputs(
        results_dir / "images_annotated" if settings.overlay else None,
        results_dir / "labels" if settings.kitti_dump else None,
    )
    outputs.refuse_originals(
        source, paths, where="detectnet_v2 inference", hint="Give another folder with -r."
    )
    files = find_images(source, args.image_dir, EXTENSIONS)
    if outputs.labels is not None:
        hint = "Rename one of them, or set kitti_dump: false in the inference file."
        refuse_shared_labels(files, args.image_dir, hint)
    return outputs, files


def model_of(settings: InferenceSettings, paths: PathMap) -> str:
    """Return the model that the inference file names: of ``tlt_config``, or of ``tensorrt_config``.

    An engine goes before the exported model that it is built from. NVIDIA's command builds it when it is missing; here
    the exported model is run as it is.

    Raises
    ------
    SpecProblem
        It names none.
    """
    if settings.model:
        return settings.model
    if settings.engine and (not settings.etlt_model or paths.to_host(settings.engine).is_file()):
        return settings.engine
    if not settings.etlt_model:
        raise SpecProblem(
            "the file names no model",
            path=settings.path,
            hint="Add tlt_config { model: … } or tensorrt_config { trt_engine: … } to inferencer_config, or give -m.",
        )
    if settings.engine:
        logger.warning("%s isn't there: etlt_model is used as it is.", settings.engine)
    if settings.data_type != "FP32":
        logger.warning(
            "backend_data_type %s has no effect on etlt_model, which runs as it was exported; gen_trt_engine builds "
            "engines.",
            settings.data_type,
        )
    return settings.etlt_model


def check_against_spec(predictor: Predictor, settings: InferenceSettings, shown_as: str) -> None:
    """Make sure that model and inference file speak of the same input and classes; the order of classes may differ.

    Raises
    ------
    SpecProblem
        The file's stride isn't the network's.
    ModelFileProblem
        They differ.
    """
    if settings.stride != STRIDE:
        raise SpecProblem(
            f"inferencer_config.stride is {settings.stride}; the network's is {STRIDE}",
            path=settings.path,
            hint="Remove stride.",
        )
    wanted = (settings.image_channels, settings.image_height, settings.image_width)
    if predictor.input_shape != wanted:
        raise ModelFileProblem(
            f"the model's input (channels, height, width) is {predictor.input_shape}, the inference file's {wanted}",
            where=shown_as,
            hint="Set image_channels, image_height and image_width to the model's.",
        )
    if set(predictor.classes) != set(settings.classes):
        raise ModelFileProblem(
            f"the model's classes ({', '.join(predictor.classes)}) and the inference file's target_classes "
            f"({', '.join(settings.classes)}) differ",
            where=shown_as,
            hint="Write target_classes as in training; output_map gives a class another name in the results.",
        )
    if predictor.classes != settings.classes:
        logger.info(
            "The model has the classes in another order than target_classes (%s): they are matched by name.",
            ", ".join(predictor.classes),
        )


def seen_of(image: Image, shape: tuple[int, int, int], resize: Resize) -> npt.NDArray[np.float32]:
    """Return what a network of this input shape sees of an image [H, W, 3] uint8: red first, 0..1, [C, h, w]."""
    channels, height, width = shape
    planes = resize(image, width, height, grey=channels == 1).transpose(2, 0, 1)[:channels]
    return np.ascontiguousarray(planes, np.float32) / np.float32(255)


class GridMarker:
    """DetectNet_v2 for :class:`~taomagic.engine.inference.annotator.Annotator`.

    Parameters
    ----------
    predictor
        The network.
    settings
        The inference file.
    resize
        How an image gets to the network's size.
    at_threshold
        Whether a confidence that equals the threshold is enough.
    """

    def __init__(
        self,
        predictor: Predictor,
        settings: InferenceSettings,
        *,
        resize: Resize = resize_lanczos,
        at_threshold: bool = False,
    ) -> None:
        self._settings = settings
        self.input_shape = predictor.input_shape
        self._resize = resize
        handlers = settings.handlers
        self._detector = Detector(
            predictor,
            {name: handler.clustering for name, handler in handlers.items()},
            confidence={name: handler.confidence_model for name, handler in handlers.items()},
            at_threshold=at_threshold,
        )

    def share(self, callers: int, /) -> int:
        """Prepare for calls of :meth:`find` by so many threads at once; return how many may."""
        return self._detector.predictor.share(callers)

    def see(self, image: Image) -> npt.NDArray[np.float32]:
        """Return what the network sees of an image: resized without regard to its shape, red first, 0..1."""
        return seen_of(image, self.input_shape, self._resize)

    def find(self, images: Tensor) -> Sequence[Mapping[str, Detections]]:
        """Return the objects in each image by class, in pixels of the network's input."""
        return self._detector.detect(images)

    def mark(self, image: Image, found: Mapping[str, Detections]) -> Marks:
        """Return the objects of an image, in its own pixels: class by class, the most confident first."""
        _, height, width = self.input_shape
        scale = np.array([image.shape[1] / width, image.shape[0] / height] * 2, np.float32)
        handlers = {name: handler for name, handler in self._settings.handlers.items() if name in found}
        counts = {name: len(found[name].confidence) for name in handlers}
        return Marks(
            np.concatenate([np.zeros((0, 4), np.float32), *(found[name].boxes * scale for name in handlers)]),
            np.concatenate([np.zeros(0, np.float32), *(found[name].confidence for name in handlers)]),
            [handler.output_name for name, handler in handlers.items() for _ in range(counts[name])],
            [handler.color for name, handler in handlers.items() for _ in range(counts[name])],
        )

    def list_rows(self, marks: Marks) -> str:
        """Return KITTI label rows."""
        return kitti_rows(marks)

    def draw(self, image: Image, marks: Marks) -> Image:
        """Return a copy of the image with boxes in their classes' colours, and ``class:confidence`` above each."""
        canvas: Image = image.copy()
        for box, score, name, colour in zip(
            marks.boxes, marks.scores, marks.names, marks.colours, strict=True
        ):
            x1, y1, x2, y2 = drawable(box)
            cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, self._settings.overlay_linewidth)
            text = f"{name}:{score:.3f}"
            (wide, high), low = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, _TEXT_SIZE, 1)
            # Inside the box where there is no room above it.
            base = max(y1 - low - _MARGIN, high + _MARGIN)
            corner = (x1 + wide + 2 * _MARGIN, base - high - _MARGIN)
            cv2.rectangle(canvas, (x1, base + low), corner, colour, cv2.FILLED)
            put_text(canvas, text, (x1 + _MARGIN, base), _TEXT_SIZE, ink_on(colour))
        return canvas

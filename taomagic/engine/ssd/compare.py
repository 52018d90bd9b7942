"""``deploy ssd compare``: what an SSD loses and gains on its way to an engine."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from torch import Tensor

from taomagic.engine.comparison import command
from taomagic.engine.comparison.contest import Contender
from taomagic.engine.data.images import Image, mean_of
from taomagic.engine.data.loading import ValidationData
from taomagic.engine.device import choose_device
from taomagic.engine.evaluation.matching import ImageDetections
from taomagic.engine.ssd.evaluate import check_against_spec
from taomagic.engine.ssd.evaluation import evaluate_model, on_pixels
from taomagic.engine.ssd.predictor import ExportedPredictor, load_predictor
from taomagic.project.paths import PathMap
from taomagic.spec.settings import SSDExperiment
from taomagic.spec.ssd import read_experiment


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``deploy ssd compare``."""
    command.run(args, paths, title="SSD", prepare=SSDContest)


class SSDContest:
    """See :class:`taomagic.engine.comparison.contest.Contest`."""

    least_score = 0.3

    def __init__(self, args: argparse.Namespace, paths: PathMap) -> None:
        self._experiment: SSDExperiment = read_experiment(
            paths.to_host(args.spec), purpose="evaluate", shown_as=args.spec
        )
        self._device = choose_device(args.gpu_index)
        self._data = ValidationData(self._experiment, paths)
        assert self._experiment.dataset is not None
        self.classes = self._experiment.dataset.classes

    def open(self, path: Path, key: str, *, name: str, shown_as: str) -> Contender:
        """Open a model or an engine."""
        experiment = self._experiment
        settings, nms = experiment.evaluation, experiment.nms
        assert settings is not None
        assert nms is not None
        predictor = load_predictor(path, key, self._device, nms, shown_as=shown_as)
        check_against_spec(predictor, experiment, shown_as)
        exported = predictor.model if isinstance(predictor, ExportedPredictor) else None

        def find(images: Tensor) -> list[ImageDetections]:
            return [on_pixels(found, predictor.input_shape) for found in predictor.predict(images)]

        return Contender(
            name,
            shown_as,
            path,
            predictor.kind,
            self._device.describe() if exported is None else exported.place,
            "fp32" if exported is None else str(exported.metadata.get("precision", "fp32")),
            predictor.parameters,
            find,
            lambda: evaluate_model(predictor, self._data, settings)[0],
        )

    def images(self, count: int) -> Tensor:
        """Return validation images as the network sees them."""
        return next(iter(self._data.batches(count))).images

    def picture(self, seen: Tensor) -> Image:
        """Return what the network sees as a picture."""
        augmentation = self._experiment.augmentation
        assert augmentation is not None
        levels = seen.cpu().numpy().transpose(1, 2, 0) + np.array(mean_of(augmentation), np.float32)
        rgb = levels[..., ::-1] if levels.shape[2] == 3 else np.repeat(levels, 3, axis=2)
        return np.ascontiguousarray(np.clip(np.rint(rgb), 0, 255).astype(np.uint8))

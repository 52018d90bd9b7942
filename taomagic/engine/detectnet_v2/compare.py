"""``deploy detectnet_v2 compare``: what a DetectNet_v2 loses and gains on its way to an engine."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from torch import Tensor

from taomagic.engine.comparison import command
from taomagic.engine.comparison.contest import Contender
from taomagic.engine.data.images import Image
from taomagic.engine.detectnet_v2.deploy_evaluate import in_one_list
from taomagic.engine.detectnet_v2.detector import Detector
from taomagic.engine.detectnet_v2.evaluate import batch_size_of
from taomagic.engine.detectnet_v2.evaluation import evaluate_model, for_evaluation
from taomagic.engine.detectnet_v2.fitting import fitted
from taomagic.engine.detectnet_v2.loading import ValidationData
from taomagic.engine.detectnet_v2.objective import GridObjective
from taomagic.engine.detectnet_v2.predictor import ExportedPredictor, open_predictor
from taomagic.engine.device import choose_device
from taomagic.engine.evaluation.average_precision import Evaluation
from taomagic.engine.evaluation.matching import ImageDetections
from taomagic.project.paths import PathMap
from taomagic.spec.detectnet_v2 import DetectNetExperiment, read_experiment


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``deploy detectnet_v2 compare``."""
    command.run(args, paths, title="DetectNet_v2", prepare=GridContest)


class GridContest:
    """See :class:`taomagic.engine.comparison.contest.Contest`."""

    #: Clustering has dropped what is weaker.
    least_score = 0.0

    def __init__(self, args: argparse.Namespace, paths: PathMap) -> None:
        self._experiment: DetectNetExperiment = read_experiment(
            paths.to_host(args.spec), purpose="evaluate", shown_as=args.spec
        )
        self._device = choose_device(args.gpu_index)
        self._data = ValidationData(self._experiment, paths)
        self.classes = self._experiment.classes

    def open(self, path: Path, key: str, *, name: str, shown_as: str) -> Contender:
        """Open a model or an engine."""
        predictor = open_predictor(path, key, self._device, shown_as=shown_as)
        experiment = fitted(self._experiment, predictor.layout, shown_as)
        self.classes = predictor.classes
        settings = experiment.evaluation
        assert settings is not None
        detector = Detector(predictor, for_evaluation(experiment.clustering))
        exported = predictor.model if isinstance(predictor, ExportedPredictor) else None

        def find(images: Tensor) -> list[ImageDetections]:
            return [
                in_one_list(found, predictor.classes, predictor.layout.size)
                for found in detector.detect(images)
            ]

        def score() -> Evaluation:
            objective = GridObjective(predictor.layout, experiment)
            batch_size = batch_size_of(experiment, None)
            return evaluate_model(detector, self._data, settings, objective, batch_size).scores

        return Contender(
            name,
            shown_as,
            path,
            predictor.kind,
            predictor.place,
            "fp32" if exported is None else str(exported.metadata.get("precision", "fp32")),
            predictor.parameters,
            find,
            score,
        )

    def images(self, count: int) -> Tensor:
        """Return validation images as the network sees them."""
        return next(iter(self._data.batches(count))).images

    def picture(self, seen: Tensor) -> Image:
        """Return what the network sees as a picture."""
        levels = seen.cpu().numpy().transpose(1, 2, 0) * 255
        rgb = levels if levels.shape[2] == 3 else np.repeat(levels, 3, axis=2)
        return np.ascontiguousarray(np.clip(np.rint(rgb), 0, 255).astype(np.uint8))

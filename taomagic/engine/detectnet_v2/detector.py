"""A predictor and its clustering: from images to objects."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from taomagic.engine.detectnet_v2.clustering import Confidence, Detections, cluster
from taomagic.engine.detectnet_v2.predictor import Predictor
from taomagic.spec.settings_detectnet_v2 import ClusteringSettings


class Detector:
    """Finds objects in images.

    Parameters
    ----------
    predictor
        Gives the maps.
    clustering
        By class, for the classes that are wanted.
    confidence
        By class, where it isn't ``aggregate_cov``.
    at_threshold
        See :func:`taomagic.engine.detectnet_v2.clustering.cluster`.
    """

    def __init__(
        self,
        predictor: Predictor,
        clustering: Mapping[str, ClusteringSettings],
        *,
        confidence: Mapping[str, Confidence] | None = None,
        at_threshold: bool = True,
    ) -> None:
        self.predictor = predictor
        self._clustering = clustering
        self._confidence = confidence or {}
        self._at_threshold = at_threshold

    def detect(self, images: Tensor) -> list[dict[str, Detections]]:
        """Return, for each image of [N, C, H, W], the objects by class."""
        return self.select(*self.predictor.raw(images))

    def select(self, coverage: Tensor, boxes: Tensor) -> list[dict[str, Detections]]:
        """Return, for each image, the objects that its maps speak of, by class."""
        layout = self.predictor.layout
        pixels = layout.corners(boxes).cpu().numpy()
        cells = coverage.cpu().numpy()
        return [
            {
                name: cluster(
                    cells[image, channel],
                    pixels[image, channel],
                    self._clustering[name],
                    confidence=self._confidence.get(name, "aggregate_cov"),
                    at_threshold=self._at_threshold,
                )
                for channel, name in enumerate(layout.classes)
                if name in self._clustering
            }
            for image in range(len(cells))
        ]

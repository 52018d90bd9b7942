"""From predictions to detections: softmax, decoding, non-maximum suppression per class, the best ``top_k``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from taomagic.engine.boxes import decode, nms
from taomagic.spec.ssd import NMSSettings


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best first.

    Attributes
    ----------
    boxes
        [D, 4] float32 corners in pixels of the network input, neither rounded nor clipped.
    scores
        [D] float32 confidences in 0..1.
    labels
        [D] int64 class ids from 1.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of detections."""
        return len(self.scores)

    def at_least(self, threshold: float) -> Detections:
        """Return those with a confidence of ``threshold`` or more."""
        keep = self.scores >= threshold
        return Detections(self.boxes[keep], self.scores[keep], self.labels[keep])


def decode_predictions(
    scores: Tensor, offsets: Tensor, anchors: Tensor, variances: Tensor
) -> tuple[Tensor, Tensor]:
    """Turn raw network output into probabilities and boxes.

    Parameters
    ----------
    scores
        [N, A, C] before the softmax.
    offsets
        [N, A, 4] encoded.
    anchors
        [A, 4] corners as shares of the image.
    variances
        [4].

    Returns
    -------
    tuple of Tensor
        Probabilities [N, A, C], background first, and corners [N, A, 4] as shares of the image.
    """
    return torch.softmax(scores, dim=-1), decode(offsets, anchors, variances)


def select_detections(
    probabilities: npt.NDArray[np.float32], boxes: npt.NDArray[np.float32], settings: NMSSettings
) -> Detections:
    """Keep the best boxes of one image.

    Parameters
    ----------
    probabilities
        [A, C], background first.
    boxes
        [A, 4] in the unit that the detections shall have.
    settings
        ``nms_config``: a box needs more than ``confidence_threshold``; at most ``top_k`` for a class and in all.
    """
    found: list[tuple[npt.NDArray[np.intp], int]] = []
    for label in range(1, probabilities.shape[1]):
        candidates = np.flatnonzero(probabilities[:, label] > settings.confidence_threshold)
        kept = nms(
            boxes[candidates],
            probabilities[candidates, label],
            settings.clustering_iou_threshold,
            settings.top_k,
        )
        found.append((candidates[kept], label))
    index = np.concatenate([i for i, _ in found])
    labels = np.concatenate([np.full(len(i), label, dtype=np.int64) for i, label in found])
    scores = probabilities[index, labels]
    order = np.argsort(-scores, kind="stable")[: settings.top_k]
    return Detections(boxes[index[order]], scores[order], labels[order])


def detect(
    scores: Tensor,
    offsets: Tensor,
    anchors: Tensor,
    variances: Tensor,
    image_size: tuple[int, int],
    settings: NMSSettings,
) -> list[Detections]:
    """Run the whole post-processing for a batch; ``image_size`` is (height, width) of the network input in pixels."""
    probabilities, boxes = decode_predictions(scores.float(), offsets.float(), anchors, variances)
    height, width = image_size
    boxes = boxes * boxes.new_tensor([width, height, width, height])
    arrays = zip(probabilities.cpu().numpy(), boxes.cpu().numpy(), strict=True)
    return [select_detections(p, b, settings) for p, b in arrays]

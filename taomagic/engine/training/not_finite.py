"""A loss that is NaN or infinite: which images it came from, with which boxes."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from taomagic.engine.data.loading import Batch
from taomagic.engine.training.distributed import gathered
from taomagic.errors import StageFailed

logger = logging.getLogger(__name__)

#: Most images of a batch that are written out with their boxes, and most boxes of one of them.
_MOST_IMAGES, _MOST_BOXES = 8, 12


class NotFiniteLoss(StageFailed):
    """The loss became NaN or infinite; going on can't mend it."""


def describe_batch(batch: Batch) -> list[str]:
    """Return a line for each image: its name, and its boxes as the network got them."""
    lines = []
    for name, boxes, labels in zip(batch.names, batch.boxes, batch.labels, strict=True):
        found = [
            f"class {label} ({', '.join(f'{value:.4g}' for value in box)})"
            for box, label in zip(boxes.tolist(), labels.tolist(), strict=True)
            if label > 0
        ]
        more = f" and {len(found) - _MOST_BOXES} more" if len(found) > _MOST_BOXES else ""
        lines.append(f"{name}: {', '.join(found[:_MOST_BOXES]) or 'no boxes'}{more}")
    return lines


def raise_not_finite(batch: Batch, values: Mapping[str, float], *, step: int, learning_rate: float) -> None:
    """Log images and boxes of a batch whose loss isn't finite, and raise. Every process has to call this.

    Parameters
    ----------
    batch
        This process' share of it.
    values
        The loss under its own name, and what it is made of.
    step
        Number of the step in its epoch, from 0.
    learning_rate
        Of this step.

    Raises
    ------
    NotFiniteLoss
        Always.
    """
    lines = [line for share in gathered(describe_batch(batch)) for line in share]
    names = [name for share in gathered(batch.names) for name in share]
    logger.error(
        "The images of this batch, and their boxes (x1, y1, x2, y2 in pixels of the network's input):"
    )
    for line in lines[:_MOST_IMAGES]:
        logger.error("  %s", line)
    if len(lines) > _MOST_IMAGES:
        logger.error("  and more images: %d", len(lines) - _MOST_IMAGES)
    parts = [f"{name} {value:g}" for name, value in values.items() if name != "loss"]
    wrong = [name for name, value in values.items() if name != "loss" and not math.isfinite(value)]
    shown = ", ".join(names[:_MOST_IMAGES]) + (", …" if len(names) > _MOST_IMAGES else "")
    raise NotFiniteLoss(
        f"the loss became {values['loss']} in step {step + 1} at learning rate {learning_rate:.3g} "
        f"({', '.join(parts)}); batch: {shown}",
        hint=(
            "The weights themselves have grown beyond all bounds: lower max_learning_rate or the regulariser's weight."
            if wrong == ["penalty"]
            else "Lower max_learning_rate, lengthen soft_start, or look at the labels of these images."
        ),
    )

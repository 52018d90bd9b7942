"""Quick mode: a training that leaves every file within minutes, to try a pipeline out, and learns little.

:data:`QUICK_MODE_VARIABLE` says how many steps an epoch has. A step then has few images, and a learning rate as
much lower; a validation between two epochs looks at few, TensorBoard gets no histograms, and where every epoch leaves a
checkpoint only some of them can be trained on from. The networks, their input and all files are as large as ever. Every
log says so.
"""

from __future__ import annotations

import os

from taomagic.errors import EnvironmentProblem

#: Number of steps to which epochs are shortened; 0 or unset: whole epochs.
QUICK_MODE_VARIABLE = "TAOMAGIC_STEPS_PER_EPOCH"
#: The most images that a process takes in a step, and that a validation between two epochs looks at.
STEP_IMAGES, VALIDATION_IMAGES = 1, 2
#: Where every epoch leaves a checkpoint, every so many hold the optimiser's state, as large again as the weights.
CHECKPOINTS_PER_STATE = 10


def steps_asked() -> int:
    """Return how many steps an epoch is to have at most; 0 for a whole epoch.

    Raises
    ------
    EnvironmentProblem
        If the variable is set to something else than a whole number of at least 0.
    """
    text = os.environ.get(QUICK_MODE_VARIABLE, "").strip() or "0"
    if not text.isdecimal():
        raise EnvironmentProblem(
            f"{text!r} is not a number of steps",
            where=QUICK_MODE_VARIABLE,
            hint="Set a whole number, e.g. 5, or unset it for whole epochs.",
        )
    return int(text)


def is_on() -> bool:
    """Whether a training is to be quick."""
    return steps_asked() > 0


def shortened(steps: int) -> int:
    """Return how many of an epoch's ``steps`` are to be made."""
    return min(steps, steps_asked()) or steps


def images_of_step(batch_size: int) -> int:
    """Return how many images of a batch a process takes."""
    return min(batch_size, STEP_IMAGES) if is_on() else batch_size


def images_of_validation(count: int) -> int:
    """Return how many of so many images are validated between two epochs."""
    return min(count, VALIDATION_IMAGES) if is_on() else count


def keeps_state(epoch: int, last: int) -> bool:
    """Whether the checkpoint of an epoch, one of many that are alike, is one to go on from."""
    return not is_on() or epoch % CHECKPOINTS_PER_STATE == 0 or epoch == last

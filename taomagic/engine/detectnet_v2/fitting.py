"""A spec and a model that was trained with another one, or with the same: what they have to agree on."""

from __future__ import annotations

import logging
from dataclasses import replace

from taomagic.engine.detectnet_v2.layout import Layout
from taomagic.errors import ModelFileProblem
from taomagic.spec.settings_detectnet_v2 import DetectNetExperiment

logger = logging.getLogger(__name__)


def fitted(experiment: DetectNetExperiment, layout: Layout, shown_as: str) -> DetectNetExperiment:
    """Return a spec in the form that a model asks for.

    Classes are matched by name, whatever their order, so that a wrong order doesn't only show as a bad score. The
    images get the model's size, which a training with ``load_graph`` takes from its pretrained file as well.

    Parameters
    ----------
    experiment
        Read for ``evaluate``.
    layout
        The model's.
    shown_as
        The model as the person wrote it.

    Raises
    ------
    ModelFileProblem
        Model and spec have other classes, or the spec cuts out a part of another size than the model's input.
    """
    if set(layout.classes) != set(experiment.classes):
        raise ModelFileProblem(
            f"the model's classes ({', '.join(layout.classes)}) and the spec's ({', '.join(experiment.classes)}) "
            "differ",
            where=shown_as,
            hint="Use the spec that the model was trained with; its classes are those of cost_function_config.",
        )
    if layout.classes != experiment.classes:
        logger.info(
            "The model has the classes in another order than the spec (%s): they are matched by name.",
            ", ".join(layout.classes),
        )
        cost = replace(
            experiment.cost, classes={name: experiment.cost.classes[name] for name in layout.classes}
        )
        experiment = replace(experiment, classes=layout.classes, cost=cost)
    return _with_input_of(experiment, layout, shown_as)


def _with_input_of(experiment: DetectNetExperiment, layout: Layout, shown_as: str) -> DetectNetExperiment:
    settings = experiment.augmentation
    assert settings is not None  # required for evaluate
    channels, height, width = layout.input_shape
    wanted = (settings.output_channel, settings.output_height, settings.output_width)
    if wanted == layout.input_shape:
        return experiment
    if settings.crop is not None and wanted[1:] != (height, width):
        raise ModelFileProblem(
            f"the model's input is {width}×{height}, and the spec cuts out {wanted[2]}×{wanted[1]}",
            where=shown_as,
            hint="Set output_image_width and output_image_height to the model's, and crop_right and crop_bottom with "
            "them.",
        )
    logger.warning(
        "The model's input is %d×%d with %d channels, the spec's %d×%d with %d: the model's is used.",
        *(width, height, channels, wanted[2], wanted[1], wanted[0]),
    )
    changed = replace(settings, output_channel=channels, output_height=height, output_width=width)
    return replace(experiment, augmentation=changed)

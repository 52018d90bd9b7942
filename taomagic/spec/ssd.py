"""The experiment file of SSD: read it, check it, get the values that the engine runs with.

``read_experiment`` is the way in; the dataclasses it returns are described in :mod:`taomagic.spec.settings`.
"""

from __future__ import annotations

from pathlib import Path

from taomagic.spec.dataset_export import CocoExport, DatasetExport, KittiExport, read_dataset_export
from taomagic.spec.settings import (
    AugmentationSettings,
    ClearMLSettings,
    CostScalingSettings,
    DatasetSettings,
    DataSource,
    EarlyStoppingSettings,
    EvaluationSettings,
    LoadModelSettings,
    NMSSettings,
    OptimizerSettings,
    Purpose,
    Secret,
    SSDExperiment,
    SSDModelSettings,
    TrainingSettings,
    VisualizerSettings,
    WandBSettings,
)

__all__ = [
    "AugmentationSettings",
    "ClearMLSettings",
    "CocoExport",
    "CostScalingSettings",
    "DataSource",
    "DatasetExport",
    "DatasetSettings",
    "EarlyStoppingSettings",
    "EvaluationSettings",
    "KittiExport",
    "LoadModelSettings",
    "NMSSettings",
    "OptimizerSettings",
    "Purpose",
    "SSDExperiment",
    "SSDModelSettings",
    "Secret",
    "TrainingSettings",
    "VisualizerSettings",
    "WandBSettings",
    "read_dataset_export",
    "read_experiment",
]


def read_experiment(path: Path, *, purpose: Purpose, shown_as: str | None = None) -> SSDExperiment:
    """Read and check an experiment file.

    Parameters
    ----------
    path
        The file on this machine.
    purpose
        What it is read for. ``train`` needs all six blocks and ``data_sources``; ``evaluate`` and
        ``inference`` do without ``training_config``, and ``evaluate`` needs ``validation_data_sources``;
        ``export`` needs ``ssd_config`` and ``nms_config``. Blocks that are there are checked in any case.
    shown_as
        The name to use in messages, usually the path as the person wrote it.

    Returns
    -------
    SSDExperiment
        With all defaults filled in.

    Raises
    ------
    SpecProblem
        If the file can't be read, breaks a rule, or asks for something that the engine can't do.
    """
    from taomagic.spec._resolve_ssd import resolve_experiment

    return resolve_experiment(path, purpose=purpose, shown_as=shown_as)

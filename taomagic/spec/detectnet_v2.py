"""The experiment files of DetectNet_v2: read them, check them, get the values that the engine runs with.

The dataclasses that the two readers return are described in :mod:`taomagic.spec.settings_detectnet_v2`; the file of
``dataset_convert`` is SSD's, see :mod:`taomagic.spec.dataset_export`.
"""

from __future__ import annotations

from pathlib import Path

from taomagic.spec.settings_detectnet_v2 import DetectNetExperiment, InferenceSettings, Purpose

__all__ = ["DetectNetExperiment", "InferenceSettings", "Purpose", "read_experiment", "read_inference"]


def read_experiment(path: Path, *, purpose: Purpose, shown_as: str | None = None) -> DetectNetExperiment:
    """Read and check the file of ``train``, ``evaluate``, ``export`` and ``calibration_tensorfile``.

    Parameters
    ----------
    path
        The file on this machine.
    purpose
        What it is read for; ``train`` needs every block, ``export`` only the classes. Blocks that are there are
        checked in any case.
    shown_as
        The name to use in messages, usually the path as the person wrote it.

    Raises
    ------
    SpecProblem
        If the file can't be read, breaks a rule, or asks for something that the engine can't do.
    """
    from taomagic.spec._resolve_detectnet_v2 import resolve_experiment

    return resolve_experiment(path, purpose=purpose, shown_as=shown_as)


def read_inference(path: Path, *, shown_as: str | None = None) -> InferenceSettings:
    """Read and check the file of ``inference``; parameters and errors as for :func:`read_experiment`."""
    from taomagic.spec._resolve_detectnet_v2_inference import resolve_inference

    return resolve_inference(path, shown_as=shown_as)

"""Exported models and engines, opened for a network that expects its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from taomagic.engine.storage.model_file import EXPORT_SUFFIXES, MODEL_SUFFIXES
from taomagic.errors import ModelFileProblem


class Runnable(Protocol):
    """Something that runs a network: an exported model, or an engine."""

    #: What the export wrote about the model.
    metadata: dict[str, Any]

    def run(self, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """Return the outputs by name for preprocessed images [N, C, H, W] float32."""
        ...


@dataclass(frozen=True)
class ExportedModel:
    """An exported model or an engine, and what it says about itself.

    Attributes
    ----------
    runner
        Runs it.
    kind, place
        For the log: what it is, and what runs it where.
    input_shape
        Channels, height and width of the input.
    classes
        Names, in the order of the network's.
    parameters
        Number of weights of the network.
    """

    runner: Runnable
    kind: str
    place: str
    input_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    parameters: int

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the export wrote about the model."""
        return self.runner.metadata


def is_checkpoint(path: Path, *, shown_as: str) -> bool:
    """Whether a file is a network of ours (``.tlt``, ``.hdf5``) and not an exported one or an engine.

    Raises
    ------
    ModelFileProblem
        It is neither.
    """
    if path.suffix in MODEL_SUFFIXES:
        return True
    if path.suffix in EXPORT_SUFFIXES:
        return False
    is_engine = path.suffix in {".engine", ".trt", ".plan"}
    raise ModelFileProblem(
        f"the name ends in {path.suffix or 'nothing'}; .tlt, .hdf5, .onnx and .etlt can be read",
        where=shown_as,
        hint="Give the model that the engine was built from; TensorRT engines run in NVIDIA's containers."
        if is_engine
        else "Give a model that train, prune or export wrote; weights alone (.pth, .safetensors) can start a "
        "training (train -m FILE).",
    )


def open_exported(path: Path, key: str, *, task: str, shown_as: str) -> ExportedModel:
    """Open an exported model (``.onnx``, ``.etlt``).

    Parameters
    ----------
    path
        File on this machine.
    key
        For encrypted files.
    task
        The network that it must be.
    shown_as
        Its path as the person wrote it, for messages.

    Raises
    ------
    ModelFileProblem
        It can't be read, is another network's, or doesn't say what it is.
    """
    from taomagic.engine.export.runtime import OnnxModel

    try:
        runner = OnnxModel(path, key)
    except ModelFileProblem as problem:
        if problem.where == str(path):
            problem.where = shown_as
        raise
    return describe(runner, task=task, shown_as=shown_as, kind="ONNX model", place="CPU, ONNX Runtime")


def describe(runner: Runnable, *, task: str, shown_as: str, kind: str, place: str) -> ExportedModel:
    """Check what a model says about itself, and keep it.

    Raises
    ------
    ModelFileProblem
        It is another network's, or doesn't say what it is.
    """
    values = runner.metadata
    stored = values.get("task", task)
    if stored != task:
        raise ModelFileProblem(
            f"this is a model of {stored!r}, not of {task!r}",
            where=shown_as,
            hint=f"Give a model that {task} export wrote.",
        )
    try:
        channels, height, width = map(int, values["input_shape"])
        return ExportedModel(
            runner,
            kind,
            place,
            (channels, height, width),
            tuple(values["classes"]),
            int(values["parameters"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ModelFileProblem(
            f"this {kind} wasn't made by `{task} export`: it doesn't say which classes and input it has",
            hint=f"Export the checkpoint with `tao {task} export`.",
            where=shown_as,
        ) from error

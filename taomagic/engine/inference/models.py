"""Exported models and engines, opened for a network that expects its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taomagic.engine.converter.engine_file import is_engine, open_engine
from taomagic.engine.converter.runtime import Engine
from taomagic.engine.storage.model_file import EXPORT_SUFFIXES, MODEL_SUFFIXES
from taomagic.errors import ModelFileProblem


@dataclass(frozen=True)
class ExportedModel:
    """An exported model or an engine, and what it says about itself.

    Attributes
    ----------
    runner
        Runs it.
    input_shape
        Channels, height and width of the input.
    classes
        Names, in the order of the network's.
    parameters
        Number of weights of the network.
    """

    runner: Engine
    input_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    parameters: int

    @property
    def kind(self) -> str:
        """What it is, for the log."""
        return self.runner.kind

    @property
    def place(self) -> str:
        """What runs it where, for the log."""
        return self.runner.place

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the export wrote about the model."""
        return self.runner.metadata


def is_checkpoint(path: Path, *, shown_as: str) -> bool:
    """Whether a file is a network of ours (``.tlt``, ``.hdf5``), and neither an exported one nor an engine.

    Raises
    ------
    ModelFileProblem
        It is none of these.
    """
    if is_engine(path):
        return False
    if path.suffix.lower() in MODEL_SUFFIXES:
        return True
    if path.suffix.lower() in EXPORT_SUFFIXES or not path.is_file():
        return False
    raise ModelFileProblem(
        f"the name ends in {path.suffix or 'nothing'}, and this is no engine; .tlt, .hdf5, .onnx, .etlt and engines "
        "can be read",
        where=shown_as,
        hint="Give a model that train, prune or export wrote; weights alone (.pth, .safetensors) can start a "
        "training.",
    )


def open_exported(path: Path, key: str, *, task: str, shown_as: str) -> ExportedModel:
    """Open an exported model (``.onnx``, ``.etlt``) or an engine.

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
    runner = open_engine(path, key, shown_as=shown_as)
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
        classes, parameters = tuple(map(str, values["classes"])), int(values["parameters"])
    except (KeyError, ValueError, TypeError) as error:
        raise ModelFileProblem(
            f"this {runner.kind} wasn't made by `{task} export`: it doesn't say which classes and input it has",
            hint=f"Export the checkpoint with `tao {task} export`.",
            where=shown_as,
        ) from error
    return ExportedModel(runner, (channels, height, width), classes, parameters)

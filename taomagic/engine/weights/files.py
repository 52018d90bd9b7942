"""Networks from model files, and model files from networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from taomagic.engine.backbones.torchvision_names import Network
from taomagic.engine.storage.header import form_of_file
from taomagic.engine.storage.model_file import MODEL_SUFFIXES, ModelFile, load_model, save_model
from taomagic.engine.storage.torch_file import STATE_DICT_FORMS, read_state_dict
from taomagic.engine.weights.kind import Description, Detector, Kind
from taomagic.engine.weights.state import BACKBONE, portable_state
from taomagic.engine.weights.torchvision import torchvision_network, unknown_network
from taomagic.errors import ModelFileProblem

A = TypeVar("A", bound=Description)
N = TypeVar("N", bound=Detector)


def model_from_file(kind: Kind[A, N], path: Path, key: str, *, shown_as: str = "") -> tuple[N, ModelFile]:
    """Rebuild the network that a ``.tlt`` or ``.hdf5`` file holds, with its weights.

    Parameters
    ----------
    kind
        What it must hold.
    path
        File on this machine.
    key
        The key it was encrypted with (``.tlt``).
    shown_as
        Its path as the person wrote it, for errors.

    Raises
    ------
    ModelFileProblem
        If it can't be read, or holds something else than such a network of ours.
    """
    name = shown_as or str(path)
    with called(path, name):
        if path.suffix.lower() not in MODEL_SUFFIXES and form_of_file(path) in STATE_DICT_FORMS:
            raise _only_a_backbone(kind, "this is a file of PyTorch weights", name)
        file = load_model(path, key)
    if file.architecture is None:
        raise _only_a_backbone(
            kind, "this file holds weights by layer name, but not the network they belong to", name
        )
    model = build(kind, architecture_of(kind, file.architecture, name), name)
    load_exactly(model, file.weights, name)
    return model, file


def _only_a_backbone(kind: Kind[A, N], what: str, name: str) -> ModelFileProblem:
    return ModelFileProblem(
        f"{what}, and a whole {kind.title} that taomagic trained is needed here",
        where=name,
        hint=f"Such a file can start a training ({kind.how_to_start}); then give the .tlt or .hdf5 of one of its "
        "epochs.",
    )


def architecture_of(kind: Kind[A, N], stored: Mapping[str, Any], name: str) -> A:
    """Return the architecture that a file describes.

    Raises
    ------
    ModelFileProblem
        It is a network of another kind, or the description is damaged.
    """
    if stored.get("task") != kind.task:
        raise ModelFileProblem(
            f"this is a model of {stored.get('task')!r}, not of {kind.task!r}",
            where=name,
            hint=f"Give a model that {kind.task} train or {kind.task} prune wrote.",
        )
    try:
        return kind.read(stored)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise damaged_description(error, name) from error


def build(kind: Kind[A, N], architecture: A, name: str) -> N:
    """Build the network that a file describes.

    Raises
    ------
    ModelFileProblem
        There can't be such a network.
    """
    try:
        return kind.build(architecture)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise damaged_description(error, name) from error


def damaged_description(error: Exception, name: str) -> ModelFileProblem:
    """Return the error for a description from which no network can be built."""
    return ModelFileProblem(
        f"the file's description of its network is damaged ({type(error).__name__}: {error})",
        where=name,
        hint="Copy the file again, or use the checkpoint of an earlier epoch.",
    )


@contextmanager
def called(path: Path, name: str) -> Iterator[None]:
    """Let errors about a file call it what the person called it."""
    try:
        yield
    except ModelFileProblem as problem:
        if problem.where == str(path):
            problem.where = name
        raise


def save(
    path: Path,
    model: Detector,
    key: str,
    *,
    epoch: int = 0,
    optimizer: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a network, and the optimiser's state where training may go on from here.

    Parameters
    ----------
    path
        ``.tlt`` or ``.hdf5``.
    model
        The network.
    key
        For ``.tlt``.
    epoch
        The last complete epoch.
    optimizer
        State dict of tensors and plain values.
    extra
        JSON data that come back in :attr:`~taomagic.engine.storage.model_file.ModelFile.extra`.
    """
    file = ModelFile(
        architecture=model.architecture.to_json(),
        weights=portable_state(model),
        epoch=epoch,
        optimizer=dict(optimizer) if optimizer is not None else None,
        extra=dict(extra or {}),
    )
    save_model(path, file, key)


def load_exactly(model: Detector, weights: Mapping[str, Tensor], name: str) -> None:
    """Load a complete set of weights.

    Raises
    ------
    ModelFileProblem
        Some don't fit; the first ones are named.
    """
    own = portable_state(model)
    wrong = [k for k in own if k not in weights or weights[k].shape != own[k].shape]
    wrong += [k for k in weights if k not in own]
    if wrong:
        shown = ", ".join(wrong[:4]) + (", …" if len(wrong) > 4 else "")
        raise ModelFileProblem(
            f"{len(wrong)} of {len(own)} weights don't fit the network that the file describes ({shown})",
            where=name,
            hint="The file is damaged, or was written by another version of taomagic.",
        )
    model.load_state_dict(dict(weights), strict=False)


@dataclass(frozen=True)
class TorchvisionState:
    """A state dict in the layout of one of torchvision's networks."""

    network: Network
    state: Mapping[str, Tensor]


def read_start(
    kind: Kind[A, N], path: Path, key: str, wanted: Description, shown_as: str
) -> ModelFile | TorchvisionState:
    """Read a file that a training begins with; its first bytes say what it is, whatever its name.

    Parameters
    ----------
    kind
        What is trained.
    path, key, shown_as
        As for :func:`model_from_file`.
    wanted
        The network of the spec.

    Returns
    -------
    ModelFile or TorchvisionState
        A file of ours, with its architecture; one of Keras, without, and with weights by layer names; a state dict of
        our own names that somebody saved from Python, which counts as one of the spec's network; or torchvision's.

    Raises
    ------
    ModelFileProblem
        It can't be read, or is a state dict of another network.
    """
    with called(path, shown_as):
        if form_of_file(path) not in STATE_DICT_FORMS:
            return load_model(path, key, by_content=True)
        state = read_state_dict(path)
        network = torchvision_network(kind, state, wanted, shown_as)
        if network is not None:
            return TorchvisionState(network, state)
        if not any(name.startswith(BACKBONE) for name in state):
            raise unknown_network(state, shown_as)
        weights = {n: tensor for n, tensor in state.items() if not n.endswith("num_batches_tracked")}
        return ModelFile(architecture=wanted.to_json(), weights=weights)

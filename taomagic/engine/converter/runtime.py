"""What runs engines: the form that all have, and ONNX Runtime's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from taomagic.engine.cores import usable_cores
from taomagic.errors import ModelFileProblem, UsageProblem

Tensors = dict[str, npt.NDArray[Any]]

#: What ONNX Runtime calls a tensor of float16.
_HALF: Final = "tensor(float16)"


class Profile(NamedTuple):
    """How many images an engine takes at once."""

    min: int  #: fewer are filled up with empty ones
    opt: int  #: what it is tuned for
    max: int  #: more go in one after the other


class Engine(Protocol):
    """Anything that turns images into tensors."""

    #: What the exported model says about itself, and ``runtime``, ``precision``, ``input_shape``, ``batch``, ….
    metadata: dict[str, Any]
    #: For the log: ``"INT8 engine"``, ``"ONNX model"``.
    kind: str
    #: Where it runs, for the log: ``"CPU, ONNX Runtime"``.
    place: str
    #: Names of the outputs.
    outputs: tuple[str, ...]
    #: How many images go in at once; ``None``: as many as are given.
    profile: Profile | None

    def share(self, callers: int, /) -> int:
        """Prepare for calls of :meth:`run` by several threads at once.

        Parameters
        ----------
        callers
            How many there are going to be; 1 takes an earlier call back.

        Returns
        -------
        int
            How many there may be, at least 1.
        """
        ...

    def run(
        self, images: npt.NDArray[np.float32], others: Mapping[str, npt.NDArray[Any]] | None = None
    ) -> Tensors:
        """Return the outputs by name.

        Parameters
        ----------
        images
            [N, C, H, W] float32, preprocessed; any N of at least 1.
        others
            Further inputs by name, of models from elsewhere that have some, N rows each.

        Returns
        -------
        dict of str to numpy.ndarray
            N rows each. Where the images went in parts, numbers of images inside the rows (the first column of
            ``NMS``) count within a part.

        Raises
        ------
        UsageProblem
            The images have another shape than the engine's input.
        """
        ...


class OnnxEngine:
    """An ONNX model in ONNX Runtime.

    Parameters
    ----------
    model
        The serialised model.
    metadata
        What it says about itself.
    profile
        Batch sizes; ``None``: any.
    input_name
        Which input takes the images; by default the first one of four dimensions.
    kind
        For the log.
    threads
        By default the cores that this process may use; ONNX Runtime itself would count all of the machine.
    exact
        See :func:`open_session`.
    shown_as
        The file, for messages.

    Raises
    ------
    ModelFileProblem
        ONNX Runtime can't load it.
    """

    place = "CPU, ONNX Runtime"

    def __init__(
        self,
        model: bytes,
        metadata: dict[str, Any],
        *,
        profile: Profile | None,
        input_name: str = "",
        kind: str = "ONNX model",
        threads: int | None = None,
        exact: bool = False,
        shown_as: str = "",
    ) -> None:
        self._threads = threads or usable_cores()
        self._open = partial(open_session, model, exact=exact, shown_as=shown_as)
        self._session = self._open(threads=self._threads)
        self.metadata = metadata
        self.kind = kind
        self.outputs = tuple(output.name for output in self._session.get_outputs())
        inputs = {entry.name: list(entry.shape) for entry in self._session.get_inputs()}
        self.input_name = input_name or image_input(inputs, shown_as)
        shape = inputs[self.input_name]
        fixed = shape[0] if shape and isinstance(shape[0], int) and shape[0] > 0 else None
        # A model of a fixed batch size takes no other one, whatever its engine was asked for.
        self.profile = Profile(fixed, fixed, fixed) if fixed else profile
        self._shape = tuple(size if isinstance(size, int) and size > 0 else None for size in shape[1:])
        # Models in half precision may take images of it, too.
        self._half = {entry.name: entry.type for entry in self._session.get_inputs()}[
            self.input_name
        ] == _HALF
        self._others = tuple(name for name in inputs if name != self.input_name)
        self._shown_as = shown_as

    @classmethod
    def of_model(cls, model: bytes, *, threads: int | None = None, shown_as: str = "") -> OnnxEngine:
        """Open an ONNX model that is no engine; its metadata are its own."""
        engine = cls(model, {}, profile=None, threads=threads, shown_as=shown_as)
        stored = engine._session.get_modelmeta().custom_metadata_map
        engine.metadata = {
            **parse_metadata(stored),
            "runtime": "onnxruntime",
            "precision": "fp32",
            "outputs": list(engine.outputs),
            "input_name": engine.input_name,
        }
        if "input_shape" not in engine.metadata and all(size is not None for size in engine._shape):
            engine.metadata["input_shape"] = list(engine._shape)
        return engine

    def share(self, callers: int, /) -> int:
        """Divide this engine's threads among the callers; see :meth:`Engine.share`.

        A session is for any number of callers, but its own threads would wait for each other after every layer.
        """
        self._session = self._open(threads=max(1, self._threads // callers))
        return callers

    def run(
        self, images: npt.NDArray[np.float32], others: Mapping[str, npt.NDArray[Any]] | None = None
    ) -> Tensors:
        """Return the outputs by name; see :meth:`Engine.run`."""
        check_images(images, self._shape, self._shown_as)
        further = dict(others or {})
        if missing := [name for name in self._others if name not in further]:
            raise UsageProblem(
                f"the model wants more than images: {', '.join(missing)}",
                where=self._shown_as,
                hint="Only models with images as their one input run in evaluate and inference.",
            )
        return run_in_parts(images, further, self.profile, self._run_once, self._shown_as)

    def _run_once(self, images: npt.NDArray[np.float32], others: Mapping[str, npt.NDArray[Any]]) -> Tensors:
        kind = np.float16 if self._half else np.float32
        feed = {self.input_name: np.ascontiguousarray(images, kind), **others}
        return dict(zip(self.outputs, self._session.run(None, feed), strict=True))


def run_in_parts(
    images: npt.NDArray[np.float32],
    others: Mapping[str, npt.NDArray[Any]],
    profile: Profile | None,
    run: Callable[[npt.NDArray[np.float32], Mapping[str, npt.NDArray[Any]]], Tensors],
    shown_as: str,
) -> Tensors:
    """Run images through what takes a limited number: in parts where they are many, filled up where they are few.

    TensorRT refuses a batch above the profile's maximum, and one below its minimum. How many images an engine takes
    at once is a property of the engine, and no concern of who has the images, so they are cut here.

    Raises
    ------
    UsageProblem
        They don't fit at once, and an output has no row for each image by which it could be put together.
    """
    count = len(images)
    if profile is None or profile.min <= count <= profile.max:
        return run(images, others)
    parts: list[Tensors] = []
    for start in range(0, count, profile.max):
        part = images[start : start + profile.max]
        rest = {name: values[start : start + profile.max] for name, values in others.items()}
        used = len(part)
        if used < profile.min:
            part = _filled(part, profile.min)
            rest = {name: _filled(values, profile.min) for name, values in rest.items()}
        found = run(part, rest)
        whole = {name: values for name, values in found.items() if values.ndim and len(values) == len(part)}
        if len(whole) < len(found):
            names = ", ".join(name for name in found if name not in whole)
            raise UsageProblem(
                f"{count} images at once: the engine takes {profile.min} to {profile.max}, and {names} can't be put "
                "together from several runs",
                where=shown_as,
                hint=f"Use a batch size of {profile.min} to {profile.max}, or build the engine with another profile.",
            )
        parts.append({name: values[:used] for name, values in whole.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def check_images(images: npt.NDArray[np.float32], shape: tuple[int | None, ...], shown_as: str) -> None:
    """Refuse images of another shape than the input's, whose sizes are ``None`` where any will do."""
    given = images.shape[1:]
    fits = len(given) == len(shape) and all(
        size is None or size == mine for size, mine in zip(shape, given, strict=True)
    )
    if not fits or len(images) == 0:
        wanted = " × ".join("any" if size is None else str(size) for size in shape)
        raise UsageProblem(
            f"the engine's input is N × {wanted}, and the images are {' × '.join(map(str, images.shape))}",
            where=shown_as,
            hint="The spec's output_width, output_height and output_channel have to be those of the export.",
        )


def open_session(
    model: bytes, *, threads: int | None = None, exact: bool = False, shown_as: str = ""
) -> ort.InferenceSession:
    """Return a session of ONNX Runtime on the processor.

    Parameters
    ----------
    model
        The serialised model.
    threads
        By default the cores that this process may use.
    exact
        Add up products of bytes without overflow on x86 without VNNI, which takes longer than float32.
    shown_as
        The file, for messages.

    Raises
    ------
    ModelFileProblem
        The model isn't valid, or has operators that ONNX Runtime doesn't know (TensorRT's plugins, for example).
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelFileProblem(
            f"ONNX Runtime can't load the model: {text}",
            hint="It has operators that only TensorRT's plugins know; export it for ONNX Runtime."
            if "is not a registered function/op" in text
            else "Export it again; the file may be damaged.",
            where=shown_as,
        ) from error


def image_input(inputs: Mapping[str, list[Any]], shown_as: str = "") -> str:
    """Return the input that takes images: the first one of four dimensions.

    Raises
    ------
    ModelFileProblem
        There is none.
    """
    for name, shape in inputs.items():
        if len(shape) == 4:
            return name
    described = ", ".join(f"{name} {shape}" for name, shape in inputs.items()) or "none at all"
    raise ModelFileProblem(
        f"the model has no input of four dimensions for images; its inputs: {described}",
        hint="Models that take images as [N, C, H, W] can be used.",
        where=shown_as,
    )


def parse_metadata(stored: Mapping[str, str]) -> dict[str, Any]:
    """Return the metadata of an ONNX model: ours are JSON, other people's stay text."""
    values: dict[str, Any] = {}
    for name, text in stored.items():
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values


def _filled(values: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    padding = np.zeros((count - len(values), *values.shape[1:]), dtype=values.dtype)
    return np.concatenate([values, padding])

"""Engine files: what is in them, how they are told apart, and how they are opened.

An engine that ONNX Runtime runs::

    magic     8 bytes: 89 "TAOE" CR LF 1A, so a copy in text mode breaks it visibly
    version   4 bytes, big-endian
    length    4 bytes, of the header
    checksum  32 bytes: SHA-256 of header and payload
    header    JSON: :class:`EngineHeader`
    payload   an ONNX model, optimised as far as every processor can run it

An engine that TensorRT runs is a plan as TensorRT itself writes it, because DeepStream and `trtexec` read nothing
else. The same JSON travels as the name of its network, which TensorRT keeps (:mod:`.tensorrt`).

Neither is encrypted, as with NVIDIA's tools: an engine belongs to the machine it was built on. What a file is, its
content says, whatever its name.
"""

from __future__ import annotations

import hashlib
import json
import logging
import struct
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from taomagic import __version__
from taomagic.engine.converter import graph
from taomagic.engine.converter.processor import multiplies_bytes
from taomagic.engine.converter.runtime import Engine, OnnxEngine, Profile
from taomagic.engine.storage import nvidia_codec
from taomagic.engine.storage.atomic import atomic_write
from taomagic.engine.storage.container import read_container
from taomagic.engine.storage.foreign import FIRST_BYTES, Form, describe, form_of
from taomagic.engine.storage.header import Kind, cut_short, damaged, open_model_file
from taomagic.errors import ModelFileProblem

logger = logging.getLogger(__name__)

MAGIC = b"\x89TAOE\r\n\x1a"
VERSION = 1
_FRAME = struct.Struct(">8sII32s")
#: How TensorRT's serialised plans begin.
_PLAN_TAGS = (b"ftrt", b"ptrt")
_MAX_HEADER_BYTES = 16 * 1024 * 1024

ONNX_RUNTIME, TENSORRT = "onnxruntime", "tensorrt"


@dataclass(frozen=True)
class EngineHeader:
    """What an engine says about itself.

    Attributes
    ----------
    runtime
        ``onnxruntime`` or ``tensorrt``.
    precision
        ``fp32``, ``fp16`` or ``int8``.
    input_name
        The input that takes the images.
    input_shape
        Its channels, height and width.
    batch
        How many images go in at once: at least, usually, at most.
    outputs
        Names of the outputs, in the order of the model.
    fingerprint
        Of the network that the engine was built from, as ``export`` wrote it; of the ONNX file where that has none.
    versions
        Program to version: taomagic, and the runtime that built it.
    model
        What the exported model says about itself: classes, means, thresholds, ….
    notes
        How it was built: calibration, tensors, and whatever else a reader may ask for.
    """

    runtime: str
    precision: str
    input_name: str
    input_shape: tuple[int, ...]
    batch: Profile
    outputs: tuple[str, ...]
    fingerprint: str
    versions: dict[str, str]
    model: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the header as text."""
        return json.dumps({"format": VERSION, **asdict(self), "batch": list(self.batch)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> EngineHeader:
        """Read a header.

        Raises
        ------
        ValueError, KeyError, TypeError
            It isn't one.
        """
        values: dict[str, Any] = json.loads(text)
        return cls(
            runtime=str(values["runtime"]),
            precision=str(values["precision"]),
            input_name=str(values["input_name"]),
            input_shape=tuple(int(size) for size in values["input_shape"]),
            batch=Profile(*(int(size) for size in values["batch"])),
            outputs=tuple(str(name) for name in values["outputs"]),
            fingerprint=str(values["fingerprint"]),
            versions=dict(values["versions"]),
            model=dict(values["model"]),
            notes=dict(values["notes"]),
        )

    def metadata(self) -> dict[str, Any]:
        """Return everything as one table; what the exported model says keeps its names."""
        return {
            **self.model,
            "runtime": self.runtime,
            "precision": self.precision,
            "input_name": self.input_name,
            "input_shape": list(self.input_shape),
            "batch": self.batch._asdict(),
            "outputs": list(self.outputs),
            "fingerprint": self.fingerprint,
            "versions": dict(self.versions),
            **({"notes": dict(self.notes)} if self.notes else {}),
        }


def is_engine(path: str | Path) -> bool:
    """Tell by its content whether a file is an engine: ours, or a plan of TensorRT. A missing file is none."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(FIRST_BYTES)
    except OSError:
        return False
    return head.startswith((MAGIC, *_PLAN_TAGS))


def is_plan(head: bytes) -> bool:
    """Tell whether a file's first bytes are those of a plan of TensorRT."""
    return head.startswith(_PLAN_TAGS)


def write_engine(path: str | Path, header: EngineHeader, payload: bytes) -> None:
    """Write an engine for ONNX Runtime, completely or not at all.

    Parameters
    ----------
    path
        The destination, of any name; replaced in one step.
    header
        What it says about itself.
    payload
        The ONNX model.

    Raises
    ------
    EnvironmentProblem
        The disk is full or the folder can't be written.
    """
    text = header.to_json().encode()
    digest = hashlib.sha256(text)
    digest.update(payload)
    with atomic_write(path) as file:
        file.write(_FRAME.pack(MAGIC, VERSION, len(text), digest.digest()))
        file.write(text)
        file.write(payload)


def read_engine(path: str | Path, *, shown_as: str = "") -> tuple[EngineHeader, bytes]:
    """Read an engine for ONNX Runtime.

    Returns
    -------
    tuple of EngineHeader, bytes
        What it says about itself, and the ONNX model.

    Raises
    ------
    ModelFileProblem
        The file is missing, is something else, is cut short or damaged, or a newer taomagic wrote it.
    """
    place = Path(shown_as or path)
    with open_model_file(Path(path)) as file:
        content = file.read()
    if not content.startswith(MAGIC):
        raise _not_an_engine(content[:FIRST_BYTES], str(place))
    if len(content) < _FRAME.size:
        raise _rebuild(cut_short(place, len(content)))
    _, version, length, checksum = _FRAME.unpack_from(content)
    if version != VERSION:
        raise ModelFileProblem(
            f"the engine has format version {version}, and this taomagic reads version {VERSION}",
            hint="Build it again from the exported model; engines belong to the version that built them.",
            where=str(place),
        )
    body = memoryview(content)[_FRAME.size :]
    if length > _MAX_HEADER_BYTES:
        raise _rebuild(damaged(place, "in its header"))
    if length > len(body):
        raise _rebuild(cut_short(place, len(content)))
    if hashlib.sha256(body).digest() != checksum:
        raise _rebuild(damaged(place, "or cut short"))
    try:
        return EngineHeader.from_json(bytes(body[:length])), bytes(body[length:])
    except (ValueError, KeyError, TypeError) as error:  # a file with a right checksum that we never wrote
        raise _rebuild(damaged(place, f"in its header ({type(error).__name__}: {error})")) from error


def open_engine(path: str | Path, key: str = "", *, shown_as: str = "", threads: int | None = None) -> Engine:
    """Open anything that maps images to tensors without PyTorch: an engine, or an exported model.

    Parameters
    ----------
    path
        An engine of ONNX Runtime or TensorRT, a ``.onnx`` or a ``.etlt``; the content counts, not the name.
    key
        For ``.etlt``; the others aren't encrypted.
    shown_as
        Its path as the person wrote it, for messages.
    threads
        For ONNX Runtime; by default the cores that this process may use.

    Returns
    -------
    Engine
        Run it with images.

    Raises
    ------
    ModelFileProblem
        The file can't be read, or is none of these.
    EnvironmentProblem
        It is a plan of TensorRT, and TensorRT or a GPU isn't here.
    """
    path, place = Path(path), shown_as or str(path)
    with _named(path, place):
        with open_model_file(path) as file:
            head = file.read(FIRST_BYTES)
        if is_plan(head):
            from taomagic.engine.converter import tensorrt_run

            return tensorrt_run.open_plan(path, shown_as=place)
        if head.startswith(MAGIC):
            header, model = read_engine(path, shown_as=place)
            # Weights of eight bits overflow on x86 without VNNI; such an engine was built elsewhere.
            exact = header.notes.get("weight_bits") == 8 and not multiplies_bytes()
            if exact:
                logger.warning(
                    "%s was built on a processor that multiplies bytes faster than this one; here it is exact and "
                    "slow. Build it again here.",
                    place,
                )
            return OnnxEngine(
                model,
                header.metadata(),
                profile=header.batch,
                input_name=header.input_name,
                kind=f"{header.precision.upper()} engine",
                threads=threads,
                exact=exact,
                shown_as=place,
            )
        model = read_exported(path, key, shown_as=place)
        return OnnxEngine.of_model(model, threads=threads, shown_as=place)


def read_exported(path: Path, key: str = "", *, shown_as: str = "") -> bytes:
    """Return the serialised ONNX model of a ``.onnx`` or ``.etlt`` file, whatever its name.

    Raises
    ------
    ModelFileProblem
        A missing, foreign, cut or damaged file; an empty or a wrong key.
    """
    place = shown_as or str(path)
    with _named(path, place):
        with open_model_file(path) as file:
            head = file.read(FIRST_BYTES)
            if head.startswith(MAGIC) or is_plan(head):
                raise ModelFileProblem(
                    "this is an engine already, and an exported model is wanted",
                    where=place,
                    hint="Give the .onnx or .etlt file that export wrote; engines run in evaluate and inference.",
                )
            form = form_of(head)
            if form is Form.ONNX:
                return graph.with_weights(head + file.read(), path.parent, shown_as=place)
        if form is Form.CONTAINER:
            return read_container(path, Kind.ONNX, key)
        if path.suffix.lower() == ".etlt" and nvidia_codec.reads(path):
            return nvidia_codec.read_etlt(path, key)
        raise _not_an_engine(head, place)


def fingerprint_of(model: bytes, metadata: dict[str, Any]) -> str:
    """Return what names a network: what ``export`` wrote into it, else the SHA-256 of the file."""
    return str(metadata.get("fingerprint") or hashlib.sha256(model).hexdigest())


def versions(**programs: str) -> dict[str, str]:
    """Return the versions to record in an engine."""
    return {"taomagic": __version__, **programs}


class _named:  # noqa: N801 - used like a function
    """Put the path that the person wrote into the errors of what happens inside."""

    def __init__(self, path: Path, shown_as: str) -> None:
        self._path, self._shown_as = str(path), shown_as

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ModelFileProblem) and error.where == self._path:
            error.where = self._shown_as


def _not_an_engine(head: bytes, place: str) -> ModelFileProblem:
    form = form_of(head)
    what, hint = describe(form)
    if form is Form.UNKNOWN:
        what = "it isn't in the format of taomagic's engines, of TensorRT's plans, of ONNX or of .etlt files"
        hint = "Build it from an exported model: tao deploy NETWORK gen_trt_engine -m MODEL.onnx --engine_file FILE"
    elif form in {Form.HDF5, Form.TORCH, Form.SAFETENSORS}:
        hint = "Export the checkpoint first (export -m FILE), and give the .onnx or .etlt."
    return ModelFileProblem(f"this is no engine and no exported model: {what}", hint=hint, where=place)


def _rebuild(problem: ModelFileProblem) -> ModelFileProblem:
    problem.message = problem.message.removesuffix("; the key is not the problem")
    problem.hint = "Copy it again, or build it again from the exported model (gen_trt_engine)."
    return problem

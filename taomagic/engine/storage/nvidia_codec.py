"""Files in NVIDIA's own encryption, by the public functions of NVIDIA's package where that is installed.

``nvidia-eff-tao-encryption`` has two functions for it, ``encrypt_stream`` and ``decrypt_stream`` in
``eff_tao_encryption.tao_codec``, as NVIDIA's published tools use them. Nothing of it is bundled, needed or imitated
here; where it isn't installed, such files can't be read or written.

An ``.etlt`` begins with the length of the input node's name, an int32, little-endian, and that name. Length 0 says that
an ONNX model follows, any other a UFF model. A ``.tlt`` is an encrypted HDF5 file, nothing else.

That encryption doesn't notice a wrong key: what comes out then is noise. So it is looked at.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import struct
from pathlib import Path
from types import ModuleType
from typing import Final

from taomagic.engine.storage.atomic import atomic_write
from taomagic.engine.storage.foreign import FIRST_BYTES, Form, form_of, looks_like_onnx
from taomagic.engine.storage.header import open_model_file, require_key
from taomagic.errors import EnvironmentProblem, ModelFileProblem

PACKAGE: Final = "nvidia-eff-tao-encryption"
_MODULE: Final = "eff_tao_encryption.tao_codec"
_LENGTH: Final = struct.Struct("<i")
_LONGEST_NAME: Final = 1024


def is_installed() -> bool:
    """Tell whether NVIDIA's package is there, without importing it."""
    return importlib.util.find_spec(_MODULE.partition(".")[0]) is not None


def reads(path: str | Path) -> bool:
    """Tell whether a file may be one in NVIDIA's encryption, and can be read here.

    Such a file begins with anything; what is left when it is none of the forms that are known may be one.
    """
    if not is_installed():
        return False
    with open_model_file(Path(path)) as file:
        head = file.read(FIRST_BYTES)
    form = form_of(head)
    by_chance = form is Form.WEB_PAGE and not head.lower().startswith((b"<!", b"<html", b"<?xml"))
    return form is Form.UNKNOWN or by_chance


def require_installed() -> ModuleType:
    """Return NVIDIA's module.

    Raises
    ------
    EnvironmentProblem
        The package isn't installed, or doesn't run here.
    """
    if not is_installed():
        raise EnvironmentProblem(
            f"NVIDIA's encryption needs the package {PACKAGE}, which isn't installed",
            hint=f"pip install {PACKAGE} (Linux on x86-64; Python 3.10 and 3.12), or leave --codec nvidia out: "
            "taomagic's own .etlt and plain .onnx need no such package.",
        )
    try:
        return importlib.import_module(_MODULE)
    except Exception as error:  # a binary package for another Python or processor fails in many ways
        raise EnvironmentProblem(
            f"the package {PACKAGE} is installed, and doesn't run here ({type(error).__name__}: {error})",
            hint="Install the release for this Python, or leave --codec nvidia out.",
        ) from error


def write_etlt(path: str | Path, model: bytes, key: str) -> None:
    """Write an ONNX model as NVIDIA's tools read it, completely or not at all.

    Parameters
    ----------
    path
        The destination.
    model
        The serialised ONNX model.
    key
        Not empty.

    Raises
    ------
    EnvironmentProblem
        The package isn't installed, or the file can't be written.
    ModelFileProblem
        The key is empty.
    """
    require_key(key, path)
    codec = require_installed()
    with atomic_write(path) as file:
        file.write(_LENGTH.pack(0))
        codec.encrypt_stream(io.BytesIO(model), file, key.encode(), encryption=True, rewind=False)


def read_etlt(path: str | Path, key: str) -> bytes:
    """Return the ONNX model of an ``.etlt`` in NVIDIA's encryption.

    Raises
    ------
    EnvironmentProblem
        The package isn't installed.
    ModelFileProblem
        The file is missing, holds UFF, or the key is wrong.
    """
    path = Path(path)
    require_key(key, path)
    codec = require_installed()
    with open_model_file(path) as file:
        head = file.read(_LENGTH.size)
        length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else -1
        if 0 < length <= _LONGEST_NAME:
            raise ModelFileProblem(
                "this .etlt holds a UFF model, as TAO 3 wrote it, and only TensorRT up to 8 reads those",
                hint="Export the checkpoint again, with taomagic or with TAO 5, which write ONNX.",
                where=str(path),
            )
        if length != 0:
            raise ModelFileProblem(
                "this is neither taomagic's nor NVIDIA's .etlt",
                hint="Copy or download it again.",
                where=str(path),
            )
        model = _decrypt(codec, file, key)
    if not looks_like_onnx(model[:FIRST_BYTES]):
        raise _wrong_key(path, "an ONNX model")
    return model


def read_tlt(path: str | Path, key: str) -> bytes:
    """Return the HDF5 file in a ``.tlt`` in NVIDIA's encryption; errors as for :func:`read_etlt`."""
    path = Path(path)
    require_key(key, path)
    codec = require_installed()
    with open_model_file(path) as file:
        content = _decrypt(codec, file, key)
    if form_of(content[:FIRST_BYTES]) is not Form.HDF5:
        raise _wrong_key(path, "an HDF5 file")
    return content


def _decrypt(codec: ModuleType, file: io.BufferedReader, key: str) -> bytes:
    target = io.BytesIO()
    codec.decrypt_stream(file, target, key.encode(), encryption=True, rewind=False)
    return target.getvalue()


def _wrong_key(path: Path, wanted: str) -> ModelFileProblem:
    return ModelFileProblem(
        f"decrypted with NVIDIA's package, this isn't {wanted}: the key is another one, or the file is damaged",
        hint="Use the -k of the command that wrote the file; NVIDIA's format can't tell the two apart. Their "
        "notebooks use tlt_encode, nvidia_tlt and nvidia_tao.",
        where=str(path),
    )

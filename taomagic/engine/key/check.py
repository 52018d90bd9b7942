"""``key check``: what kind of file it is, and whether a key opens it."""

from __future__ import annotations

import argparse
from pathlib import Path

from taomagic.engine.console import say
from taomagic.engine.storage import nvidia_codec
from taomagic.engine.storage.container import CHUNK_BYTES, DecryptingReader, read_header
from taomagic.engine.storage.foreign import FIRST_BYTES, Form, describe, form_of
from taomagic.engine.storage.header import open_model_file
from taomagic.errors import ModelFileProblem
from taomagic.project.paths import PathMap

#: Forms of models that aren't encrypted.
_PLAIN = {Form.HDF5, Form.ONNX, Form.TORCH, Form.SAFETENSORS, Form.ZIP}
#: How engines begin: ours, and TensorRT's plans.
_ENGINES = (b"\x89TAOE\r\n\x1a", b"ftrt", b"ptrt")


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``key check``.

    A file of ours is read to its end, so what is said to open is whole as well.
    """
    path = paths.to_host(args.file)
    try:
        for line in report(path, args.key):
            say(line)
    except ModelFileProblem as problem:
        if problem.where == str(path):
            problem.where = args.file
        raise


def report(path: Path, key: str) -> list[str]:
    """Return what there is to say about a file, in sentences.

    Parameters
    ----------
    path
        The file.
    key
        May be empty; then only the kind is told.

    Raises
    ------
    ModelFileProblem
        The file is missing, cut short, damaged or no model, or the key is another one.
    """
    with open_model_file(path) as file:
        head = file.read(FIRST_BYTES)
    form = form_of(head)
    if form is Form.CONTAINER:
        return _report_container(path, key)
    if head.startswith(_ENGINES):
        return ["It is an engine, which isn't encrypted: it needs no key."]
    if form in _PLAIN:
        what, _ = describe(form)
        return [f"{what[0].upper()}{what[1:]}, which isn't encrypted: it needs no key."]
    if nvidia_codec.reads(path):
        return _report_nvidia(path, key)
    what, hint = describe(form)
    raise ModelFileProblem(f"this is no model file that can be read: {what}", hint=hint, where=str(path))


def _report_container(path: Path, key: str) -> list[str]:
    header = read_header(path)
    lines = [f"It is {header.kind.described}, encrypted by taomagic, {header.payload_bytes:,} bytes."]
    if not key:
        return [*lines, "No key was given: with -k KEY the key is checked, and every byte of the file."]
    buffer = memoryview(bytearray(min(CHUNK_BYTES, header.payload_bytes) or 1))
    with DecryptingReader(path, header.kind, key) as reader:
        while reader.readinto(buffer):
            pass
    return [*lines, "The key opens it, and it is whole."]


def _report_nvidia(path: Path, key: str) -> list[str]:
    if not key:
        return ["It may be a file in NVIDIA's encryption. No key was given: with -k KEY the key is checked."]
    try:
        nvidia_codec.read_etlt(path, key)
        kind = "an exported ONNX model (.etlt)"
    except ModelFileProblem:
        nvidia_codec.read_tlt(path, key)
        kind = "a model checkpoint (.tlt)"
    return [f"It is {kind} in NVIDIA's encryption.", "The key opens it."]

"""Tell by its first bytes what a file is, whatever its name says, so that it is read rightly or refused usefully."""

from __future__ import annotations

from enum import Enum

#: How many bytes of a file are enough to tell what it is.
FIRST_BYTES = 32


class Form(Enum):
    """What a file is; the value says it as a sentence that begins with "it"."""

    CONTAINER = "it is a container encrypted by taomagic"
    HDF5 = "it is a plain HDF5 file"
    ONNX = "it is a plain ONNX model"
    TORCH = "it is a PyTorch file"
    SAFETENSORS = "it is a safetensors file"
    ZIP = "it is a ZIP archive (a PyTorch file, or a .tlt of TAO's PyTorch networks)"
    GZIP = "it is packed with gzip"
    LFS_POINTER = "it is a Git LFS pointer, not the file itself"
    WEB_PAGE = "it is a web page"
    EMPTY = "it is empty"
    UNKNOWN = (
        "it isn't in taomagic's format (NVIDIA's containers encrypt .tlt and .etlt in a way of their own)"
    )


_ONLY_TO_START = "Models are .tlt or .hdf5 files; PyTorch's files can only start a training (train -m FILE)."
_HINTS = {
    Form.CONTAINER: "Give it its own suffix back: .tlt for a checkpoint, .etlt for an exported model.",
    Form.HDF5: "Give it a name that ends in .hdf5; plain files need no key.",
    Form.ONNX: "Give it a name that ends in .onnx; plain files need no key.",
    Form.TORCH: _ONLY_TO_START,
    Form.SAFETENSORS: _ONLY_TO_START,
    Form.ZIP: _ONLY_TO_START,
    Form.GZIP: "Unpack it first, with `gunzip` or `tar -xzf`.",
    Form.LFS_POINTER: "Fetch the real file with `git lfs pull`.",
    Form.WEB_PAGE: "The download went wrong: open the address in a browser and see what it says.",
    Form.EMPTY: "The write was probably interrupted: make the file again.",
    Form.UNKNOWN: "Train or export it with taomagic, or use the plain .hdf5 or .onnx form that TAO 5 writes. NVIDIA's "
    "encrypted files are read where the package nvidia-eff-tao-encryption is installed.",
}

_BY_FIRST_BYTES: tuple[tuple[bytes, Form], ...] = (
    (b"\x89TAOM\r\n\x1a", Form.CONTAINER),
    (b"\x89HDF\r\n\x1a\n", Form.HDF5),
    (b"PK\x03\x04", Form.ZIP),
    # What torch.save wrote before version 1.6: a pickled magic number first.
    (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", Form.TORCH),
    (b"version https://git-lfs", Form.LFS_POINTER),
    (b"\x1f\x8b", Form.GZIP),
    (b"<", Form.WEB_PAGE),
    # Pickles of other protocols, and the archives of PyTorch 0.1: torch.load knows what to say about them.
    (b"\x80\x02", Form.TORCH),
    (b"\x80\x03", Form.TORCH),
    (b"\x80\x04", Form.TORCH),
    (b"\x80\x05", Form.TORCH),
)


def form_of(head: bytes) -> Form:
    """Return what a file is, from its first :data:`FIRST_BYTES` bytes."""
    if not head:
        return Form.EMPTY
    for prefix, form in _BY_FIRST_BYTES:
        if head.startswith(prefix):
            return form
    # A safetensors file begins with the length of its JSON header, 8 bytes, and that with a brace.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 27:
        return Form.SAFETENSORS
    if head.lstrip().startswith((b"<!", b"<html", b"<HTML", b"<?xml")):
        return Form.WEB_PAGE
    return Form.ONNX if looks_like_onnx(head) else Form.UNKNOWN


def describe_foreign(head: bytes) -> tuple[str, str]:
    """Say what a file seems to be, and what to do with it.

    Parameters
    ----------
    head
        Its first bytes; 32 are enough.

    Returns
    -------
    tuple[str, str]
        What it looks like, as a sentence that begins with "it", and a hint.
    """
    return describe(form_of(head))


def describe(form: Form) -> tuple[str, str]:
    """Say what a form is, as a sentence that begins with "it", and what to do with such a file."""
    return form.value, _HINTS[form]


def looks_like_onnx(head: bytes) -> bool:
    """Return whether the bytes begin as an ONNX ``ModelProto`` does.

    Its first field is the IR version, a small number; after it comes the producer's name, the graph, or the
    list of operator sets.
    """
    return len(head) > 2 and head[0] == 0x08 and 1 <= head[1] < 0x20 and head[2] in (0x12, 0x3A, 0x42)

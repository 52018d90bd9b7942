"""Say what a file is that isn't ours, so that an error can name the way out."""

from __future__ import annotations

_BY_FIRST_BYTES: tuple[tuple[bytes, str, str], ...] = (
    (
        b"\x89TAOM\r\n\x1a",
        "it is a container encrypted by taomagic",
        "Give it its own suffix back: .tlt for a checkpoint, .etlt for an exported model.",
    ),
    (
        b"\x89HDF\r\n\x1a\n",
        "it is a plain HDF5 file",
        "Give it a name that ends in .hdf5; plain files need no key.",
    ),
    (
        b"PK\x03\x04",
        "it is a ZIP archive (a PyTorch file, or a .tlt of TAO's PyTorch networks)",
        "Only SSD model files in .tlt or .hdf5 form can be read here.",
    ),
    (
        b"version https://git-lfs",
        "it is a Git LFS pointer, not the file itself",
        "Fetch the real file with `git lfs pull`.",
    ),
    (
        b"<",
        "it is a web page",
        "The download went wrong: open the address in a browser and see what it says.",
    ),
)


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
    if not head:
        return "it is empty", "The write was probably interrupted: make the file again."
    for prefix, what, hint in _BY_FIRST_BYTES:
        if head.startswith(prefix):
            return what, hint
    if looks_like_onnx(head):
        return "it is a plain ONNX model", "Give it a name that ends in .onnx; plain files need no key."
    return (
        "it isn't in taomagic's format (NVIDIA's containers encrypt .tlt and .etlt in a way of their own)",
        "Train or export it with taomagic, or use the plain .hdf5 or .onnx form that TAO 5 writes.",
    )


def looks_like_onnx(head: bytes) -> bool:
    """Return whether the bytes begin as an ONNX ``ModelProto`` does.

    Its first field is the IR version, a small number; after it comes the producer's name, the graph, or the
    list of operator sets.
    """
    return len(head) > 2 and head[0] == 0x08 and 1 <= head[1] < 0x20 and head[2] in (0x12, 0x3A, 0x42)

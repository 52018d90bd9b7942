"""TFRecord files: records framed by their length and two checksums, each an ``Example``.

A record is: length (uint64, little endian), masked CRC32C of the length, the bytes, masked CRC32C of the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from crc32c import crc32c
from google.protobuf.message import DecodeError

from taomagic.engine.data.example_pb2 import Example
from taomagic.errors import DataProblem

__all__ = [
    "ByteStrings",
    "Example",
    "Integers",
    "TFRecordWriter",
    "encode_example",
    "example_parts",
    "index_path",
    "parse_example",
    "read_index",
    "read_record",
    "read_records",
]

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_HEADER_BYTES = _LENGTH.size + _CRC.size
#: Bytes that a record needs beside its content.
FRAME_BYTES = _HEADER_BYTES + _CRC.size
#: How files begin that gzip packed.
_GZIP = b"\x1f\x8b"
#: A length above this can only be damage; it would otherwise be allocated before the checksum is looked at.
_LONGEST_RECORD = 1 << 31


class ByteStrings(list[bytes]):
    """A feature of several texts; none at all is written as an empty list of texts."""


class Integers(list[int]):
    """A feature of several integers; none at all is written as an empty list of integers.

    TensorFlow's parsers refuse an empty list of another kind than the one that they were told.
    """


FeatureValue = bytes | int | ByteStrings | Integers | Sequence[float]


def _masked_crc(*parts: bytes) -> bytes:
    """Return the checksum as TensorFlow stores it, rotated and shifted by a constant."""
    crc = 0
    for part in parts:
        crc = crc32c(part, crc)
    return _CRC.pack(((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


class TFRecordWriter:
    """Writes records to a new file.

    Attributes
    ----------
    index
        (offset, size) of every record written, framing included.
    """

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self._offset = 0
        self.index: list[tuple[int, int]] = []

    def write(self, *parts: bytes) -> None:
        """Append one record, which may come in parts: joining them would copy the image once more."""
        total = sum(map(len, parts))
        length = _LENGTH.pack(total)
        self._file.write(length + _masked_crc(length))
        for part in parts:
            self._file.write(part)
        self._file.write(_masked_crc(*parts))
        size = FRAME_BYTES + total
        self.index.append((self._offset, size))
        self._offset += size

    def write_index(self, path: Path) -> None:
        """Write the index: one line ``<offset> <size>`` for each record."""
        path.write_text(
            "".join(f"{offset} {size}\n" for offset, size in self.index), encoding="ascii", newline="\n"
        )

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def index_path(records: Path) -> Path:
    """Return where the index of a record file is: ``idx-<name>`` beside it."""
    return records.with_name(f"idx-{records.name}")


def read_index(records: Path, *, shown_as: str | None = None) -> list[tuple[int, int]]:
    """Return (offset, size) of the records of a file from its index.

    Raises
    ------
    DataProblem
        The index is missing or can't be understood.
    """
    path = index_path(records)
    shown = shown_as or str(records)
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        return [(int(offset), int(size)) for offset, size in (line.split() for line in lines if line.strip())]
    except FileNotFoundError:
        raise DataProblem(
            f"the index file {path.name} of this TFRecord file is missing",
            where=shown,
            hint="run ssd dataset_convert again; it writes both (detectnet_v2's records have none, and no pictures)",
        ) from None
    except (OSError, ValueError) as error:
        raise DataProblem(
            f"the index file {path.name} of this TFRecord file can't be read",
            where=shown,
            hint="run dataset_convert again; it writes both",
        ) from error


def read_record(file: BinaryIO, name: str) -> bytes | None:
    """Read the record at the file's position; ``None`` at the end of the file.

    Raises
    ------
    DataProblem
        The record is cut off or its checksum is wrong; says file and offset.
    """
    offset = file.tell()
    header = file.read(_HEADER_BYTES)
    if not header:
        return None
    length_bytes = header[: _LENGTH.size]
    if len(header) < _HEADER_BYTES or header[_LENGTH.size :] != _masked_crc(length_bytes):
        if offset == 0 and header.startswith(_GZIP):
            raise DataProblem(
                "the TFRecord file is packed with gzip", where=name, hint="unpack it with gunzip"
            )
        raise _damaged(name, offset, "the length of a record is damaged")
    (length,) = _LENGTH.unpack(length_bytes)
    if length > _LONGEST_RECORD:
        raise _damaged(name, offset, f"a record claims to be {length} bytes long")
    body = file.read(length + _CRC.size)
    if len(body) < length + _CRC.size:
        raise _damaged(name, offset, "a record is cut off")
    record = body[:length]
    if body[length:] != _masked_crc(record):
        raise _damaged(name, offset, "a record is damaged (wrong checksum)")
    return record


def read_records(path: Path, *, shown_as: str | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, record) of a file from front to back.

    Parameters
    ----------
    path
        The file on this machine.
    shown_as
        Its name in messages.

    Raises
    ------
    DataProblem
        The file can't be opened, or a record is damaged; says file and offset.
    """
    shown = shown_as or str(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataProblem(f"the TFRecord file can't be opened: {error.strerror}", where=shown) from error
    with file:
        offset = 0
        while (record := read_record(file, shown)) is not None:
            yield offset, record
            offset += FRAME_BYTES + len(record)


def _damaged(name: str, offset: int, message: str) -> DataProblem:
    return DataProblem(message, where=f"{name}, byte {offset}", hint="run dataset_convert again")


def encode_example(features: Mapping[str, FeatureValue]) -> bytes:
    """Return a serialised ``Example``; see :func:`example_parts`."""
    return b"".join(example_parts(features))


def example_parts(features: Mapping[str, FeatureValue]) -> tuple[bytes, ...]:
    """Return a serialised ``Example`` in parts; equal features in equal order give equal bytes.

    Written by hand, as the message is so simple (https://protobuf.dev/programming-guides/encoding): building protobuf
    objects for the nineteen features of an image takes several times as long, and copies the image twice more.

    Parameters
    ----------
    features
        Name -> bytes, an integer, :class:`ByteStrings`, :class:`Integers`, or a list of floats.
    """
    parts = [b"\x0a", b""]
    for name, value in features.items():
        if isinstance(value, bytes):
            content, kind = value, _BYTES_LIST
        elif isinstance(value, int):
            content, kind = _varint(value), _INT64_LIST
        elif isinstance(value, Integers):
            content, kind = b"".join(map(_varint, value)), _INT64_LIST
        elif isinstance(value, ByteStrings):
            parts.append(_texts(name, value))
            continue
        else:
            content, kind = _floats(len(value)).pack(*value), _FLOAT_LIST
        parts.append(_head(name, kind, len(content)))
        parts.append(content)
    parts[1] = _varint(sum(map(len, parts)) - 1)
    # Whatever is small goes together; a picture stays where it is.
    large = next((place for place, part in enumerate(parts) if len(part) > _LARGE), len(parts))
    return b"".join(parts[:large]), *parts[large : large + 1], b"".join(parts[large + 1 :])


@lru_cache(maxsize=1024)
def _floats(count: int) -> struct.Struct:
    """Return the packer of some 32-bit floats."""
    return struct.Struct(f"<{count}f")


#: Above this many bytes, a part is worth not to be copied.
_LARGE = 1 << 14
#: Tags of the three lists in a ``Feature``.
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = b"\x0a", b"\x12", b"\x1a"


@lru_cache(maxsize=4096)
def _head(name: str, kind: bytes, length: int) -> bytes:
    """Return what comes before the content of a feature: its entry in the map, its name, its list, their lengths."""
    # An empty list of numbers has no content at all; an empty text is content of length 0.
    values = b"\x0a" + _varint(length) if length or kind == _BYTES_LIST else b""
    feature = kind + _varint(len(values) + length) + values
    key = name.encode()
    entry = b"\x0a" + _varint(len(key)) + key + b"\x12" + _varint(len(feature) + length) + feature
    return b"\x0a" + _varint(len(entry) + length) + entry


def _texts(name: str, values: ByteStrings) -> bytes:
    """Return a feature of several texts, each with its length."""
    items = b"".join(b"\x0a" + _varint(len(value)) + value for value in values)
    feature = _BYTES_LIST + _varint(len(items)) + items
    key = name.encode()
    entry = b"\x0a" + _varint(len(key)) + key + b"\x12" + _varint(len(feature)) + feature
    return b"\x0a" + _varint(len(entry)) + entry


def _varint(value: int) -> bytes:
    """Return an integer in base 128, the lowest digit first; a negative one as its 64-bit complement."""
    if 0 <= value < 128:
        return _SMALL[value]
    value &= (1 << 64) - 1
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    digits.append(value)
    return bytes(digits)


_SMALL = tuple(bytes((value,)) for value in range(128))


def parse_example(record: bytes, name: str, offset: int) -> Example:
    """Return the ``Example`` in a record.

    Raises
    ------
    DataProblem
        The record holds something else; says file and offset.
    """
    try:
        return Example.FromString(record)
    except DecodeError as error:
        raise DataProblem(
            "a record isn't a tf.train.Example",
            where=f"{name}, byte {offset}",
            hint="run dataset_convert again",
        ) from error

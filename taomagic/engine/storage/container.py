"""The encrypted container behind ``.tlt`` and ``.etlt`` files.

::

    header   128 bytes: magic, version, kind, scrypt parameters, salt, nonce prefix, chunk size, payload
             size, key check, zeros, and a checksum of all that (truncated SHA-256)
    chunks   `chunk size` bytes of payload each (the last one may be shorter, or empty), each followed by
             16 bytes of AES-256-GCM tag

All integers are big-endian. The magic holds CR LF, so a copy in text mode breaks it visibly. Later versions
keep the size of the header and the place of its checksum.

The user's key goes through scrypt, then HKDF gives two independent values: the AES key, and a *key check*
that is stored in the header. The checksum needs no key. So a damaged header, a wrong key and a damaged
payload can be told apart, which an AES-GCM tag alone can't do.

The payload follows the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár, 2015), as `age` and Tink do:
the nonce of a chunk is a random prefix, the chunk's number, and a flag on the last one, so chunks can't be
swapped, repeated or cut off. The header is associated data of every chunk. Memory stays at a few chunks for
any file size.

Nothing here reads or imitates NVIDIA's own encrypted files.
"""

from __future__ import annotations

import io
import itertools
import os
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Protocol, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from taomagic.engine.storage.atomic import atomic_write
from taomagic.engine.storage.header import (
    HEADER_BYTES,
    SCRYPT_COST,
    TAG_BYTES,
    Header,
    Kind,
    cut_short,
    damaged,
    derive,
    open_model_file,
    parse_header,
    require_key,
    unlock,
)
from taomagic.errors import ModelFileProblem

CHUNK_BYTES = 1024 * 1024
_PREFIX_BYTES = 7


class Readable(Protocol):
    """A binary file to read from; any opened with ``"rb"`` is one."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the buffer with the next bytes; return how many, 0 at the end."""
        ...


class _Salts:
    """Gives each container its salt and nonce prefix: one salt for a process, under which no prefix comes twice.

    So the key of a training's checkpoints is derived once. AES-GCM allows it, since key and nonce never recur together.
    """

    def __init__(self) -> None:
        self._of_process = (0, b"", itertools.count())

    def next(self) -> tuple[bytes, bytes]:
        """Return the salt, and a prefix that no other container of this salt has."""
        process, salt, numbers = self._of_process
        # A process that was forked off gets a salt of its own.
        if process != os.getpid():
            salt, numbers = os.urandom(16), itertools.count(int.from_bytes(os.urandom(_PREFIX_BYTES)))
            self._of_process = (os.getpid(), salt, numbers)
        return salt, (next(numbers) % 256**_PREFIX_BYTES).to_bytes(_PREFIX_BYTES)


_SALTS = _Salts()


class EncryptingWriter:
    """Encrypts what is written to it into a seekable file. Call :meth:`finish` after the last byte.

    Parameters
    ----------
    target
        A binary, seekable file, positioned where the container begins.
    kind
        What the payload is.
    key
        The user's key; not empty.
    chunk_bytes
        Payload bytes per chunk.
    """

    def __init__(self, target: BinaryIO, kind: Kind, key: str, *, chunk_bytes: int = CHUNK_BYTES) -> None:
        require_key(key)
        salt, prefix = _SALTS.next()
        cipher_key, key_check = derive(key, salt, *SCRYPT_COST)
        self._target = target
        self._start = target.tell()
        self._cipher = AESGCM(cipher_key)
        # Two buffers for all chunks: fresh memory for each costs twice as much as its encryption.
        self._buffer = memoryview(bytearray(chunk_bytes))
        self._sealed = memoryview(bytearray(chunk_bytes + TAG_BYTES))
        self._filled = 0
        self._chunk = 0
        self._header = Header(kind, *SCRYPT_COST, salt, prefix, chunk_bytes, 0, key_check)
        self._payload_bytes = 0
        # Until `finish` the place of the header is blank: an unfinished file never looks like a whole one.
        target.write(bytes(HEADER_BYTES))

    def write(self, data: bytes | memoryview) -> None:
        """Encrypt ``data``; whole chunks go to the file at once, the rest waits for more."""
        view = memoryview(data)
        while view:
            # A chunk is sealed only when a byte follows it: the last one carries a flag, and may be this one.
            if self._filled == len(self._buffer):
                self._seal(last=False)
            taken = min(len(self._buffer) - self._filled, len(view))
            self._buffer[self._filled : self._filled + taken] = view[:taken]
            self._filled += taken
            view = view[taken:]

    def finish(self) -> Header:
        """Write the last chunk and the header. The target stays open."""
        self._seal(last=True)
        header = replace(self._header, payload_bytes=self._payload_bytes)
        end = self._target.tell()
        self._target.seek(self._start)
        self._target.write(header.pack())
        self._target.seek(end)
        return header

    def _seal(self, *, last: bool) -> None:
        nonce = _nonce(self._header.nonce_prefix, self._chunk, last=last)
        sealed = self._sealed[: self._filled + TAG_BYTES]
        data = self._buffer[: self._filled]
        _fill(sealed, self._cipher, "encrypt", nonce, data, self._header.associated_data)
        self._target.write(sealed)
        self._payload_bytes += self._filled
        self._chunk += 1
        self._filled = 0


class DecryptingReader(io.RawIOBase):
    """Reads the payload of a container, one verified chunk at a time.

    No byte is handed out before its chunk has been authenticated.

    Parameters
    ----------
    path
        The file.
    kind
        What the payload has to be.
    key
        The user's key.

    Raises
    ------
    ModelFileProblem
        Four different ones: not a taomagic file of this kind; a wrong key; a file cut short; damaged bytes.
        The first three are raised on opening, damage of the payload when the reader meets it.
    """

    def __init__(self, path: str | Path, kind: Kind, key: str) -> None:
        self.path = Path(path)
        self._file = open_model_file(self.path)
        try:
            self.header = parse_header(self._file, self.path)
            _check_kind(self.header, kind, self.path)
            _check_size(self._file, self.header, self.path)
            self._cipher = AESGCM(unlock(self.header, key, self.path))
        except BaseException:
            self._file.close()
            raise
        self._left = self.header.payload_bytes
        self._chunk = 0
        self._last_seen = False
        # As for writing. A header may name chunks far larger than the file.
        largest = min(self.header.chunk_bytes, self._left)
        self._buffer = memoryview(bytearray(largest))
        self._sealed = memoryview(bytearray(largest + TAG_BYTES))
        self._data = memoryview(b"")

    def readable(self) -> bool:
        """Return ``True``: this is a file to read from."""
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        """Fill ``buffer`` with the next bytes of the payload; return how many, 0 at the end."""
        if not self._data and not self._last_seen:
            self._data = self._next_chunk()
        count = min(len(buffer), len(self._data))
        memoryview(buffer).cast("B")[:count] = self._data[:count]
        self._data = self._data[count:]
        return count

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next_chunk(self) -> memoryview:
        size = min(self._left, self.header.chunk_bytes)
        self._last_seen = size == self._left
        nonce = _nonce(self.header.nonce_prefix, self._chunk, last=self._last_seen)
        data, sealed = self._buffer[:size], self._sealed[: size + TAG_BYTES]
        whole = self._file.readinto(sealed) == len(sealed)  # as it was when the file was opened
        try:
            _fill(data, self._cipher, "decrypt", nonce, sealed, self.header.associated_data)
        except InvalidTag:
            whole = False
        if not whole:
            offset = HEADER_BYTES + self._chunk * (self.header.chunk_bytes + TAG_BYTES)
            raise damaged(self.path, f"in the {size + TAG_BYTES:,} bytes from {offset:,}")
        self._left -= size
        self._chunk += 1
        return data


def write_container(path: str | Path, kind: Kind, key: str, payload: bytes | Readable) -> None:
    """Write an encrypted file, completely or not at all.

    Parameters
    ----------
    path
        The destination; replaced in one step.
    kind
        What the payload is.
    key
        The user's key; not empty.
    payload
        The bytes, or a binary file to read them from in constant memory.

    Raises
    ------
    ModelFileProblem
        The key is empty.
    EnvironmentProblem
        The disk is full or the folder can't be written; no half file is left.
    """
    require_key(key, path)
    with atomic_write(path) as file:
        writer = EncryptingWriter(file, kind, key)
        if isinstance(payload, bytes):
            writer.write(payload)
        else:
            buffer = memoryview(bytearray(CHUNK_BYTES))
            while count := payload.readinto(buffer):
                writer.write(buffer[:count])
        writer.finish()


def read_container(path: str | Path, kind: Kind, key: str) -> bytes:
    """Return the whole payload of an encrypted file.

    Raises
    ------
    ModelFileProblem
        As :class:`DecryptingReader`.
    """
    with DecryptingReader(path, kind, key) as reader:
        payload = bytearray(reader.header.payload_bytes)
        view = memoryview(payload)
        while count := reader.readinto(view):
            view = view[count:]
    return bytes(payload)


def read_header(path: str | Path) -> Header:
    """Return the header of an encrypted file. Needs no key.

    Raises
    ------
    ModelFileProblem
        The file is missing, isn't a container, or its header is cut short or damaged.
    """
    path = Path(path)
    with open_model_file(path) as file:
        return parse_header(file, path)


def check_key(path: str | Path, key: str) -> Header:
    """Check that ``key`` opens the file, without reading the payload.

    Returns
    -------
    Header
        What the file says about itself.

    Raises
    ------
    ModelFileProblem
        As :func:`read_header`, or the key is another one.
    """
    header = read_header(path)
    unlock(header, key, Path(path))
    return header


def _fill(
    target: memoryview,
    cipher: AESGCM,
    action: Literal["encrypt", "decrypt"],
    nonce: bytes,
    data: memoryview,
    associated_data: bytes,
) -> None:
    """Encrypt or decrypt into memory that is there, for which older releases of `cryptography` always take new."""
    into = getattr(cipher, f"{action}_into", None)
    if into is None:
        target[:] = getattr(cipher, action)(nonce, data, associated_data)
    elif into(nonce, data, associated_data, target) != len(target):
        raise AssertionError  # the sizes are the cipher's own


def _nonce(prefix: bytes, chunk: int, *, last: bool) -> bytes:
    return prefix + chunk.to_bytes(4, "big") + bytes([last])


def _check_kind(header: Header, kind: Kind, path: Path) -> None:
    if header.kind is not kind:
        raise ModelFileProblem(
            f"the file holds {header.kind.described}, and {kind.described} is needed",
            hint="Check the path: evaluate, prune and retrain take a checkpoint; converters take an export.",
            where=str(path),
        )


def _check_size(file: BinaryIO, header: Header, path: Path) -> None:
    actual = os.fstat(file.fileno()).st_size
    if actual < header.file_bytes:
        raise cut_short(path, actual, header.file_bytes)
    if actual > header.file_bytes:
        raise damaged(path, f"by {actual - header.file_bytes:,} bytes that don't belong to it, at its end")

"""The header of an encrypted container: its layout, its key check, and what can be wrong with it."""

from __future__ import annotations

import functools
import hashlib
import hmac
import struct
from dataclasses import dataclass, replace
from enum import IntEnum
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from taomagic.engine.storage.foreign import FIRST_BYTES, Form, describe_foreign, form_of
from taomagic.errors import ModelFileProblem

MAGIC = b"\x89TAOM\r\n\x1a"
VERSION = 1
HEADER_BYTES = 128
MAX_CHUNK_BYTES = 64 * 1024 * 1024
TAG_BYTES = 16
#: scrypt's log2 n, r and p for new files: 32 MiB and a tenth of a second for each guess at the key.
SCRYPT_COST = (15, 8, 1)

# version, kind, log2 n, r, p, salt, nonce prefix, chunk bytes, payload bytes, key check
_FIELDS = struct.Struct(">BBBBB16s7sIQ16s")
_CHECKSUM_BYTES = 16


class Kind(IntEnum):
    """What a container holds."""

    CHECKPOINT = 1
    ONNX = 2

    @property
    def described(self) -> str:
        """The kind in words, with the suffix of its files."""
        return "a model checkpoint (.tlt)" if self is Kind.CHECKPOINT else "an exported ONNX model (.etlt)"


@dataclass(frozen=True)
class Header:
    """The readable part of a container. Needs no key, and holds no secret.

    Attributes
    ----------
    kind
        What the payload is.
    log2_n, r, p
        scrypt parameters.
    salt, nonce_prefix
        16 and 7 random bytes, new for each file.
    chunk_bytes, payload_bytes
        Size of a full chunk and of the whole payload, before encryption.
    key_check
        16 bytes that only the right key gives.
    """

    kind: Kind
    log2_n: int
    r: int
    p: int
    salt: bytes
    nonce_prefix: bytes
    chunk_bytes: int
    payload_bytes: int
    key_check: bytes

    def pack(self) -> bytes:
        """Return the bytes from the magic to the checksum."""
        head = MAGIC + self._fields(self.payload_bytes)
        head = head.ljust(HEADER_BYTES - _CHECKSUM_BYTES, b"\0")
        return head + _checksum(head)

    @property
    def associated_data(self) -> bytes:
        """What every chunk vouches for: the header, without the size that is known only at the end."""
        return self._fields(0)

    @property
    def file_bytes(self) -> int:
        """The size of a complete file with this header."""
        chunks = max(1, -(-self.payload_bytes // self.chunk_bytes))
        return HEADER_BYTES + self.payload_bytes + chunks * TAG_BYTES

    def _fields(self, payload_bytes: int) -> bytes:
        return _FIELDS.pack(
            VERSION, self.kind, self.log2_n, self.r, self.p, self.salt, self.nonce_prefix,
            self.chunk_bytes, payload_bytes, self.key_check,
        )  # fmt: skip


def require_key(key: str, path: str | Path = "") -> None:
    """Refuse an empty key.

    Raises
    ------
    ModelFileProblem
        The key is empty.
    """
    if not key:
        raise ModelFileProblem(
            "encrypted model files need a key, and the key is empty",
            hint="Give one with -k (in a notebook: %tao_env --key, then -k $KEY), or use the plain "
            ".hdf5 and .onnx names, which need none.",
            where=str(path),
        )


@functools.lru_cache(maxsize=8)
def derive(key: str, salt: bytes, log2_n: int, r: int, p: int) -> tuple[bytes, bytes]:
    """Return the AES key (32 bytes) and the key check (16 bytes); an eighth of a second, but for the last few salts."""
    secret = Scrypt(salt=salt, length=32, n=2**log2_n, r=r, p=p).derive(key.encode())
    expanded = HKDFExpand(algorithm=hashes.SHA256(), length=48, info=b"taomagic container 1").derive(secret)
    return expanded[:32], expanded[32:]


def unlock(header: Header, key: str, path: Path) -> bytes:
    """Return the AES key of a file, or raise that ``key`` is empty or another one."""
    require_key(key, path)
    cipher_key, key_check = derive(key, header.salt, header.log2_n, header.r, header.p)
    if not hmac.compare_digest(key_check, header.key_check):
        raise ModelFileProblem(
            "the key is not the one this file was encrypted with",
            hint="Use the -k of the command that wrote the file; keys are case-sensitive, and a pasted one "
            "may have gained a space or a quote.",
            where=str(path),
        )
    return cipher_key


def open_model_file(path: Path) -> BufferedReader:
    """Open a model file for reading, with our own words for what can go wrong."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise ModelFileProblem(
            "there is no such model file",
            hint="Check the path and the epoch number; train prints the name of every file it saves.",
            where=str(path),
        ) from None
    except OSError as error:
        raise ModelFileProblem(
            f"the model file can't be opened ({error.strerror})",
            hint="Check that it is a file, and its permissions.",
            where=str(path),
        ) from error


def form_of_file(path: Path) -> Form:
    """Return what a file is, by its first bytes; :func:`open_model_file` says what can go wrong."""
    with open_model_file(path) as file:
        return form_of(file.read(FIRST_BYTES))


def parse_header(file: BinaryIO, path: Path) -> Header:
    """Read and check the first :data:`HEADER_BYTES` of ``file``; ``path`` is for the messages."""
    head = file.read(HEADER_BYTES)
    if not head.startswith(MAGIC):
        what, hint = describe_foreign(head)
        raise ModelFileProblem(f"this is not a taomagic model file: {what}", hint=hint, where=str(path))
    if len(head) < HEADER_BYTES:
        raise cut_short(path, len(head))
    if _checksum(head[:-_CHECKSUM_BYTES]) != head[-_CHECKSUM_BYTES:]:
        raise damaged(path, "in its header")
    version, kind, log2_n, r, p, *rest = _FIELDS.unpack_from(head, len(MAGIC))
    if version != VERSION:
        raise ModelFileProblem(
            f"the file has format version {version}, and this taomagic reads version {VERSION}",
            hint="Upgrade taomagic: pip install --upgrade taomagic",
            where=str(path),
        )
    # The checksum holds no secret, so anyone can write a valid header: bound what it can make us allocate.
    header = Header(kind, log2_n, r, p, *rest)
    scrypt_bounded = 10 <= log2_n <= 18 and 1 <= r <= 8 and 1 <= p <= 4
    if not (scrypt_bounded and 1 <= header.chunk_bytes <= MAX_CHUNK_BYTES):
        raise damaged(path, "in its header")
    if kind not in set(Kind):
        raise ModelFileProblem(
            f"the file holds something this taomagic doesn't know (kind {kind})",
            hint="Upgrade taomagic: pip install --upgrade taomagic",
            where=str(path),
        )
    return replace(header, kind=Kind(kind))


def _checksum(head: bytes) -> bytes:
    return hashlib.sha256(head).digest()[:_CHECKSUM_BYTES]


def cut_short(path: Path, actual: int, expected: int | None = None) -> ModelFileProblem:
    """Return the error for a file that ends too early (sizes in bytes)."""
    of = "" if expected is None else f" of {expected:,}"
    return ModelFileProblem(
        f"the file is cut short: {actual:,}{of} bytes are there",
        hint="Copy or download it again, or use the checkpoint of an earlier epoch.",
        where=str(path),
    )


def damaged(path: Path, place: str) -> ModelFileProblem:
    """Return the error for changed bytes; ``place`` completes "the file is damaged …"."""
    return ModelFileProblem(
        f"the file is damaged {place}; the key is not the problem",
        hint="Copy or download it again, or use the checkpoint of an earlier epoch.",
        where=str(path),
    )

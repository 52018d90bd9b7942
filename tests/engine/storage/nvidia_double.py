"""A double of NVIDIA's encryption package: its two public functions, and no encryption worth the name."""

from __future__ import annotations

import sys
import types
from typing import BinaryIO

import pytest


class Double:
    """What NVIDIA's published tools call, and nothing else: a stream in, a stream out, the key as bytes."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def _stream(self, source: BinaryIO, target: BinaryIO, key: bytes, encryption: bool, rewind: bool) -> None:
        assert isinstance(key, bytes)
        assert (encryption, rewind) == (True, False)
        noise = bytes(sum(key) * (i + 7) % 251 for i in range(1024))
        while block := source.read(1024):
            target.write(bytes(a ^ b for a, b in zip(block, noise, strict=False)))

    def encrypt_stream(
        self,
        source: BinaryIO,
        target: BinaryIO,
        passphrase: bytes,
        encryption: bool = True,
        rewind: bool = True,
    ) -> None:
        self.calls.append("encrypt")
        self._stream(source, target, passphrase, encryption, rewind)

    def decrypt_stream(
        self,
        source: BinaryIO,
        target: BinaryIO,
        passphrase: bytes,
        encryption: bool = True,
        rewind: bool = True,
    ) -> None:
        self.calls.append("decrypt")
        self._stream(source, target, passphrase, encryption, rewind)


@pytest.fixture(name="package")
def nvidia_package(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Double:
    """Install the double under the package's name."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "eff_tao_encryption").mkdir()
    (folder / "eff_tao_encryption" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(folder))
    double = Double()
    module = types.ModuleType("eff_tao_encryption.tao_codec")
    module.encrypt_stream = double.encrypt_stream  # type: ignore[attr-defined]
    module.decrypt_stream = double.decrypt_stream  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "eff_tao_encryption.tao_codec", module)
    return double

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taomagic.engine.storage import container
from taomagic.engine.storage.atomic import atomic_write
from taomagic.engine.storage.container import (
    DecryptingReader,
    EncryptingWriter,
    check_key,
    read_container,
    read_header,
    write_container,
)
from taomagic.engine.storage.header import HEADER_BYTES, SCRYPT_COST, Kind, parse_header
from taomagic.errors import EnvironmentProblem, ModelFileProblem

KEY = "nvidia_tlt"
each_example_overwrites = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def sealed(payload: bytes, *, chunk_bytes: int = 64, kind: Kind = Kind.CHECKPOINT) -> bytes:
    target = io.BytesIO()
    writer = EncryptingWriter(target, kind, KEY, chunk_bytes=chunk_bytes)
    writer.write(payload)
    writer.finish()
    return target.getvalue()


def problem(path: Path, key: str = KEY, kind: Kind = Kind.CHECKPOINT) -> ModelFileProblem:
    with pytest.raises(ModelFileProblem) as caught:
        read_container(path, kind, key)
    assert caught.value.hint
    assert str(path) in str(caught.value)
    return caught.value


@given(payload=st.binary(max_size=400), chunk_bytes=st.integers(1, 130), cuts=st.lists(st.integers(0, 400)))
@each_example_overwrites
def test_a_payload_comes_back_however_it_is_cut_into_writes_and_chunks(tmp_path, payload, chunk_bytes, cuts):
    path = tmp_path / "model.tlt"
    with path.open("wb") as target:
        writer = EncryptingWriter(target, Kind.CHECKPOINT, KEY, chunk_bytes=chunk_bytes)
        edges = [0, *sorted(min(cut, len(payload)) for cut in cuts), len(payload)]
        for start, end in itertools.pairwise(edges):
            writer.write(payload[start:end])
        header = writer.finish()
    assert read_container(path, Kind.CHECKPOINT, KEY) == payload
    assert path.stat().st_size == header.file_bytes


def test_every_byte_counts(tmp_path):
    whole = sealed(bytes(range(150)))
    path = tmp_path / "model.tlt"
    for position in range(len(whole)):
        for flip in (0x01, 0x80):
            broken = bytearray(whole)
            broken[position] ^= flip
            path.write_bytes(broken)
            assert ("not a taomagic" if position < 8 else "damaged") in problem(path).message


@given(position=st.integers(0, 10_000), flip=st.integers(1, 255), payload=st.binary(max_size=300))
@each_example_overwrites
def test_any_change_of_any_byte_is_found(tmp_path, position, flip, payload):
    broken = bytearray(sealed(payload))
    broken[position % len(broken)] ^= flip
    path = tmp_path / "model.tlt"
    path.write_bytes(broken)
    problem(path)


def test_every_shorter_file_is_called_cut_short(tmp_path):
    whole = sealed(bytes(range(150)))
    path = tmp_path / "model.tlt"
    for length in range(8, len(whole)):
        path.write_bytes(whole[:length])
        assert "cut short" in problem(path).message


class _Older:
    """The cipher of an older `cryptography`, which returns memory of its own."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def encrypt(self, *words: object) -> bytes:
        return self._cipher.encrypt(*words)

    def decrypt(self, *words: object) -> bytes:
        return self._cipher.decrypt(*words)


@pytest.mark.parametrize("writer", [AESGCM, _Older])
@pytest.mark.parametrize("reader", [AESGCM, _Older])
def test_older_and_newer_ciphers_read_each_others_files(tmp_path, monkeypatch, writer, reader):
    path, payload = tmp_path / "model.tlt", bytes(range(256)) * 3
    monkeypatch.setattr(container, "AESGCM", writer)
    path.write_bytes(sealed(payload))
    monkeypatch.setattr(container, "AESGCM", reader)
    assert read_container(path, Kind.CHECKPOINT, KEY) == payload
    broken = bytearray(path.read_bytes())
    broken[-30] ^= 1
    path.write_bytes(broken)
    assert "damaged" in problem(path).message


def test_a_file_that_shrinks_while_it_is_read_is_damaged(tmp_path):
    path = tmp_path / "model.tlt"
    path.write_bytes(sealed(bytes(300_000)))
    with DecryptingReader(path, Kind.CHECKPOINT, KEY) as reader:
        with path.open("r+b") as file:
            file.truncate(100_000)
        # What was read ahead before is still right; behind it nothing is made up.
        with pytest.raises(ModelFileProblem, match="damaged"):
            reader.readall()


def test_chunks_cannot_be_swapped_repeated_or_dropped(tmp_path):
    whole = sealed(bytes(64 * 3))
    head, chunks = whole[:HEADER_BYTES], [whole[HEADER_BYTES + i * 80 :][:80] for i in range(3)]
    path = tmp_path / "model.tlt"
    for order in ((1, 0, 2), (0, 0, 2), (0, 2, 1)):
        path.write_bytes(head + b"".join(chunks[i] for i in order))
        assert "damaged" in problem(path).message
    path.write_bytes(whole + b"more")
    assert "damaged" in problem(path).message


def test_four_causes_give_four_errors(tmp_path):
    path = tmp_path / "model.tlt"
    write_container(path, Kind.CHECKPOINT, KEY, b"weights" * 100)
    whole = path.read_bytes()
    messages = [problem(path, key="nvidia_tao").message]
    path.write_bytes(whole[:-1])
    messages.append(problem(path).message)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    messages.append(problem(path).message)
    path.write_bytes(b"\x8c\x12 somebody else's encryption")
    messages.append(problem(path).message)
    causes = ("key is not the one", "cut short", "damaged", "not a taomagic")
    assert [[cause for cause in causes if cause in message] for message in messages] == [[c] for c in causes]
    assert "key is not the problem" in messages[2]


@pytest.mark.parametrize(
    ("head", "named", "advice"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "plain HDF5", ".hdf5"),
        (b"\x08\x08\x12\x07pytorch", "plain ONNX", ".onnx"),
        (b"PK\x03\x04" + bytes(50), "ZIP", ".hdf5"),
        (b"<!DOCTYPE html>", "web page", "browser"),
        (b"version https://git-lfs.github.com/spec/v1", "LFS", "git lfs pull"),
        (b"\x05\x00\x00\x00Input\x91\x03", "NVIDIA", "TAO 5"),
        (b"", "empty", "again"),
    ],
)
def test_a_foreign_file_is_named_with_the_way_out(tmp_path, head, named, advice):
    path = tmp_path / "model.tlt"
    path.write_bytes(head)
    error = problem(path)
    assert named in error.message
    assert advice in error.hint


def test_an_export_is_not_taken_for_a_checkpoint(tmp_path):
    path = tmp_path / "model.etlt"
    write_container(path, Kind.ONNX, KEY, b"graph")
    assert "exported ONNX model" in problem(path).message
    assert read_container(path, Kind.ONNX, KEY) == b"graph"


def test_an_empty_key_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ModelFileProblem, match="key is empty") as caught:
        write_container(tmp_path / "model.tlt", Kind.CHECKPOINT, "", b"weights")
    assert "-k" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_key_can_be_checked_without_reading_the_payload(tmp_path):
    path = tmp_path / "model.tlt"
    write_container(path, Kind.CHECKPOINT, "schlüssel 钥匙", b"weights")
    assert check_key(path, "schlüssel 钥匙").payload_bytes == 7
    assert read_header(path).kind is Kind.CHECKPOINT
    with pytest.raises(ModelFileProblem, match="not the one"):
        check_key(path, "schluessel")


def test_the_same_payload_never_gives_the_same_file():
    assert sealed(b"weights")[HEADER_BYTES:] != sealed(b"weights")[HEADER_BYTES:]


def test_a_process_has_one_salt_and_no_nonce_twice():
    """The key of a training's checkpoints is derived once; with a salt of its own, a fork can't repeat a nonce."""
    headers = [parse_header(io.BytesIO(sealed(b"weights")), Path("model.tlt")) for _ in range(3)]
    assert len({header.salt for header in headers}) == 1
    assert len({header.nonce_prefix for header in headers}) == 3
    receiver, sender = os.pipe()
    if (child := os.fork()) == 0:
        os.write(sender, container._SALTS.next()[0])
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(receiver, 16) not in {header.salt for header in headers}
    os.close(receiver)
    os.close(sender)


def test_guessing_a_key_is_expensive():
    log2_n, r, _ = SCRYPT_COST
    assert 128 * r * 2**log2_n >= 32 * 1024 * 1024


def test_a_header_cannot_ask_for_much_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "derive", lambda *_: (bytes(32), bytes(16)))
    monkeypatch.setattr(container, "SCRYPT_COST", (30, 8, 1))
    path = tmp_path / "model.tlt"
    path.write_bytes(sealed(b"weights"))
    assert "damaged" in problem(path).message


def test_memory_stays_at_a_few_chunks(tmp_path):
    plain, encrypted = tmp_path / "plain", tmp_path / "model.tlt"
    size = 96 * 1024 * 1024
    with plain.open("wb") as file:
        file.truncate(size)
    tracemalloc.start()
    with plain.open("rb") as source:
        write_container(encrypted, Kind.CHECKPOINT, KEY, source)
    with DecryptingReader(encrypted, Kind.CHECKPOINT, KEY) as reader:
        buffer, total = bytearray(1 << 20), 0
        while count := reader.readinto(memoryview(buffer)):
            total += count
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == size
    assert peak < 32 * 1024 * 1024


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "model.tlt"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_named_and_leaves_no_half_file(tmp_path):
    # A limit on the size of files fails in the middle of a write, as a full disk does.
    program = """
import resource, sys
from taomagic.engine.storage.container import write_container
from taomagic.engine.storage.header import Kind
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
write_container(sys.argv[1], Kind.CHECKPOINT, "key", bytes(12_000_000))
"""
    path = tmp_path / "model.tlt"
    result = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "EnvironmentProblem" in result.stderr
    assert "no space left" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_killed_write_is_cleaned_up_by_the_next_one(tmp_path):
    path = tmp_path / "model.tlt"
    program = """
import os, signal, sys
from taomagic.engine.storage.atomic import atomic_write
with atomic_write(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert [item.name.endswith(".partial") for item in tmp_path.iterdir()] == [True]
    with atomic_write(path) as file:
        file.write(b"whole")
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "model.tlt"
    with atomic_write(path) as first:
        first.write(b"first")
        with atomic_write(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"


def test_a_missing_file_is_named(tmp_path):
    assert "no such model file" in problem(tmp_path / "model.tlt").message


def test_a_folder_that_is_none_is_an_environment_problem(tmp_path):
    (tmp_path / "file").write_text("a file")
    with (
        pytest.raises(EnvironmentProblem, match="not a folder"),
        atomic_write(tmp_path / "file" / "model.tlt"),
    ):
        pass

"""Encrypt and decrypt a file of 1 GB: taomagic's container beside OpenSSL's own programs for the same cipher.

    python benchmarks/container.py [--megabytes 1000] [--rounds 3]

Every measurement is a process of its own, which reads a file and writes one, as `export` and `train` do; its time is
the process's own, without the interpreter's start; its memory is the peak of its resident set, above that of a process
that only imports. The peers:

- *in one piece*: `cryptography`'s AESGCM over the whole file in memory, what a few lines of Python would do;
- *openssl enc*: the command line program with AES-256-CTR, which protects nothing against changes, on the same file
  (the program doesn't do AES-GCM).

Files lie where --folder says (by default in memory, /dev/shm, so that the disk is not what is measured).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KEY = "benchmark"


def measure(what: str, source: Path, target: Path) -> None:
    """Do one thing in this process, and print its seconds and its memory in bytes as JSON."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from taomagic.engine.storage.container import DecryptingReader, write_container
    from taomagic.engine.storage.header import Kind

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    if what == "encrypt":
        with source.open("rb") as payload:
            write_container(target, Kind.CHECKPOINT, KEY, payload)
    elif what == "decrypt":
        buffer = memoryview(bytearray(1 << 20))
        with DecryptingReader(source, Kind.CHECKPOINT, KEY) as reader, target.open("wb") as file:
            while count := reader.readinto(buffer):
                file.write(buffer[:count])
    elif what == "encrypt_at_once":
        target.write_bytes(AESGCM(bytes(32)).encrypt(bytes(12), source.read_bytes(), None))
    elif what == "decrypt_at_once":
        target.write_bytes(AESGCM(bytes(32)).decrypt(bytes(12), source.read_bytes(), None))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "bytes": (peak - before) * 1024}))


def openssl(source: Path, target: Path, *, decrypt: bool = False) -> dict[str, float]:
    """Do it with the openssl program."""
    words = ["openssl", "enc", "-aes-256-ctr", "-K", "00" * 32, "-iv", "00" * 16]
    start = time.perf_counter()
    process = subprocess.Popen([*words, *(["-d"] if decrypt else []), "-in", source, "-out", target])
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return {"seconds": time.perf_counter() - start, "bytes": usage.ru_maxrss * 1024}


def child(what: str, source: Path, target: Path) -> dict[str, float]:
    """Run :func:`measure` in a fresh process."""
    words = [sys.executable, __file__, "--measure", what, str(source), str(target)]
    result: dict[str, float] = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    return result


def main() -> None:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--measure", nargs=3, metavar=("WHAT", "SOURCE", "TARGET"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        what, source, target = args.measure
        measure(what, Path(source), Path(target))
        return
    size = args.megabytes * 10**6
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        plain, sealed, back = folder / "plain", folder / "sealed", folder / "back"
        block = os.urandom(10**6)
        with plain.open("wb") as file:
            for _ in range(args.megabytes):
                file.write(block)
        rows: list[tuple[str, str, str]] = [
            ("taomagic's container", "encrypt", "decrypt"),
            ("AES-256-GCM in one piece", "encrypt_at_once", "decrypt_at_once"),
        ]
        if shutil.which("openssl"):
            rows.append(("openssl enc, AES-256-CTR", "openssl", "openssl"))
        found: dict[str, list[tuple[float, float]]] = {}
        for title, forth, again in rows:
            runs: list[list[dict[str, float]]] = [[], []]
            for _ in range(args.rounds):
                for out in (sealed, back):
                    out.unlink(missing_ok=True)
                if forth == "openssl":
                    runs[0].append(openssl(plain, sealed))
                    runs[1].append(openssl(sealed, back, decrypt=True))
                else:
                    runs[0].append(child(forth, plain, sealed))
                    runs[1].append(child(again, sealed, back))
                assert back.stat().st_size == size
            found[title] = [
                (statistics.median(r["seconds"] for r in each), max(r["bytes"] for r in each))
                for each in runs
            ]
    ours = found["taomagic's container"]
    print("| | encrypting, MB/s | decrypting, MB/s | memory, MB | time, against ours |")
    print("|---|---|---|---|---|")
    for title, values in found.items():
        speeds = [size / 1e6 / seconds for seconds, _ in values]
        memory = max(used for _, used in values) / 1e6
        ratios = [seconds / mine for (seconds, _), (mine, _) in zip(values, ours, strict=True)]
        print(
            f"| {title} | {speeds[0]:.0f} | {speeds[1]:.0f} | {memory:.0f} | {ratios[0]:.2f} × / {ratios[1]:.2f} × |"
        )


if __name__ == "__main__":
    main()

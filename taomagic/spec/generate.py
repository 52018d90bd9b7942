"""Regenerate ``*_pb2.py`` and ``*_pb2.pyi`` from the ``.proto`` files here: ``python -m taomagic.spec.generate``.

Needs the ``dev`` extra (grpcio-tools).
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

#: The oldest protobuf that the package supports. A generated module refuses to load in a runtime older than
#: the compiler it names, and the compiler at hand is usually newer than this. Apart from that number,
#: protobuf's compilers have written the same module for this file since 6.31.
OLDEST_RUNTIME = (6, 31, 0)

# The compiler registers the file under its path from the root, and that name must be ours alone in a
# process where another package may have an `ssd.proto` too.
_ROOT = Path(__file__).parents[2]
_FOLDER = "taomagic/spec"

#: One for each network; detectnet_v2's imports the messages that it shares with ssd's.
PROTOS = ("ssd", "detectnet_v2")


def generate(target: Path) -> list[Path]:
    """Write the generated modules and their type stubs.

    Parameters
    ----------
    target
        Folder for ``ssd_pb2.py``, ``ssd_pb2.pyi`` and the others; it must exist.

    Returns
    -------
    list of Path
        Every module, followed by its stub.

    Raises
    ------
    RuntimeError
        If the protobuf compiler reports an error.
    """
    from grpc_tools import protoc  # type: ignore[import-untyped]

    sources = [f"{_FOLDER}/{name}.proto" for name in PROTOS]
    paths = []
    with tempfile.TemporaryDirectory() as folder:
        code = protoc.main(
            ["protoc", f"-I{_ROOT}", f"--python_out={folder}", f"--pyi_out={folder}", *sources]
        )
        if code != 0:
            raise RuntimeError(f"protoc failed with exit code {code}")
        for name in PROTOS:
            module, stub = (Path(folder, _FOLDER, f"{name}_pb2{suffix}") for suffix in (".py", ".pyi"))
            written = _for_oldest_runtime(module.read_text("utf-8")), stub.read_text("utf-8")
            for path, text in zip((module, stub), written, strict=True):
                (target / path.name).write_text(text, "utf-8")
                paths.append(target / path.name)
    return paths


def _for_oldest_runtime(source: str) -> str:
    """Return generated source that names the oldest supported runtime as its own version."""
    major, minor, patch = OLDEST_RUNTIME
    source = re.sub(r"(# Protobuf Python Version: )[\d.]+", rf"\g<1>{major}.{minor}.{patch}", source)
    return re.sub(
        r"(Domain\.PUBLIC,\s+)\d+(,\s+)\d+(,\s+)\d+(,)", rf"\g<1>{major}\g<2>{minor}\g<3>{patch}\g<4>", source
    )


if __name__ == "__main__":
    for path in generate(Path(__file__).parent):
        sys.stdout.write(f"{path}\n")

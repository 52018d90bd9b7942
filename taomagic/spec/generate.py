"""Regenerate ``ssd_pb2.py`` and ``ssd_pb2.pyi`` from ``ssd.proto``: ``python -m taomagic.spec.generate``.

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
_SOURCE = "taomagic/spec/ssd.proto"


def generate(target: Path) -> tuple[Path, Path]:
    """Write the generated module and its type stub.

    Parameters
    ----------
    target
        Folder for ``ssd_pb2.py`` and ``ssd_pb2.pyi``; it must exist.

    Returns
    -------
    tuple of Path
        The module and the stub.

    Raises
    ------
    RuntimeError
        If the protobuf compiler reports an error.
    """
    from grpc_tools import protoc  # type: ignore[import-untyped]

    with tempfile.TemporaryDirectory() as folder:
        arguments = ["protoc", f"-I{_ROOT}", f"--python_out={folder}", f"--pyi_out={folder}", _SOURCE]
        code = protoc.main(arguments)
        if code != 0:
            raise RuntimeError(f"protoc failed with exit code {code}")
        written = Path(folder, _SOURCE).parent
        module, stub = target / "ssd_pb2.py", target / "ssd_pb2.pyi"
        module.write_text(_for_oldest_runtime((written / module.name).read_text("utf-8")), "utf-8")
        stub.write_text((written / stub.name).read_text("utf-8"), "utf-8")
    return module, stub


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

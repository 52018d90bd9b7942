"""Regenerate ``example_pb2.py`` and ``example_pb2.pyi``: ``python -m taomagic.engine.data.generate``.

Needs the ``dev`` extra (grpcio-tools).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from taomagic.spec.generate import _for_oldest_runtime

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[2]
_SOURCE = "taomagic/engine/data/example.proto"


def generate(target: Path = _HERE) -> None:
    """Write the generated module and its type stub into a folder."""
    from grpc_tools import protoc  # type: ignore[import-untyped]

    with tempfile.TemporaryDirectory() as folder:
        arguments = ["protoc", f"-I{_ROOT}", f"--python_out={folder}", f"--pyi_out={folder}", _SOURCE]
        if (code := protoc.main(arguments)) != 0:
            raise RuntimeError(f"protoc failed with exit code {code}")
        written = Path(folder, _SOURCE).parent
        module = (written / "example_pb2.py").read_text("utf-8")
        (target / "example_pb2.py").write_text(_for_oldest_runtime(module), "utf-8")
        (target / "example_pb2.pyi").write_text((written / "example_pb2.pyi").read_text("utf-8"), "utf-8")


if __name__ == "__main__":
    generate()

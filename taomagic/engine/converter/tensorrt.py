"""TensorRT, where it is installed with a GPU: the one module that imports it."""

from __future__ import annotations

from pathlib import Path

from taomagic.engine.converter.runtime import Engine
from taomagic.errors import EnvironmentProblem


def open_plan(_path: Path, *, shown_as: str) -> Engine:
    """Open a plan of TensorRT.

    Raises
    ------
    EnvironmentProblem
        TensorRT or a GPU isn't here.
    """
    raise EnvironmentProblem(
        "this is a plan of TensorRT, and TensorRT isn't installed here",
        where=shown_as,
        hint="Build an engine for this machine from the exported model (gen_trt_engine), or use one with TensorRT.",
    )

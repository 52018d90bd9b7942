"""NVIDIA TAO in a notebook cell, with NVIDIA's containers or without them.

In a notebook: ``%load_ext taomagic``, then ``%tao_env`` and ``%tao ssd train …``. In a shell: ``tao ssd train …``.
"""

from __future__ import annotations

from typing import Any

__all__ = ["__version__", "load_ipython_extension", "unload_ipython_extension"]

__version__ = "0.1.0"


def load_ipython_extension(shell: Any) -> None:
    """Add ``%tao_env``, ``%tao``, ``%%tao`` and ``%%tao_spec`` to IPython (``%load_ext taomagic``)."""
    from taomagic.extension import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take them away again (``%unload_ext taomagic``)."""
    from taomagic.extension import unload

    unload(shell)

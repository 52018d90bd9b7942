"""Waits in a kernel, at next to no cost, for the first cell that comes from a notebook of NVIDIA's.

The startup file that ``tao setup notebooks`` writes imports this in every kernel of the person, whatever it is for; so
nothing is imported here that a kernel hasn't got already.
"""

from __future__ import annotations

import os
import re
from typing import Any

#: What only a notebook for TAO has: the launcher, its variables, its map, the addresses of its data set.
_MARKS = re.compile(
    r"""^\s*(?:[\w.]+\s*=\s*)?!{1,2}\s*(?:tao|tao-deploy|tlt)\s+\w"""
    r"""|(?:%(?:set_)?env\s+|\benviron\[\s*["'])"""
    r"""(?:LOCAL_(?:PROJECT|DATA|EXPERIMENT|SPECS)_DIR|HOST_(?:DATA|RESULTS|SPECS|MODEL)_DIR|USER_EXPERIMENT_DIR"""
    r"""|TAO_DOCKER_DISABLE|COLAB_NOTEBOOKS_PATH)\b"""
    r"""|\.t(?:ao|lt)_mounts\.json|\bKITTI_(?:IMAGES|LABELS)_DOWNLOAD_URL\b"""
    r"""|\A\s*%%(?:bash|sh|script)\b(?:.*\n)+?\s*(?:tao|tao-deploy|tlt)\s+\w""",
    re.MULTILINE,
)


def watch(shell: Any) -> None:
    """Wait for such a cell, and then prepare the kernel for it and those that follow.

    Parameters
    ----------
    shell
        The InteractiveShell; its working folder is the notebook's.
    """
    shell.input_transformers_cleanup.append(Waiting(shell))


class Waiting:
    """Looks at the text of each cell; one of IPython's transformers of it."""

    #: IPython doesn't call it for what is only being typed.
    has_side_effects = True

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._folder = os.getcwd()  # noqa: PTH109 - a kernel may have no pathlib yet

    def __call__(self, lines: list[str]) -> list[str]:
        """Return the lines of a cell as they are, or as what is loaded for them makes of them."""
        if not _MARKS.search("".join(lines)):
            return lines
        hooks = self._shell.input_transformers_cleanup
        hooks.remove(self)
        before = list(hooks)
        try:
            _prepare(self._shell, self._folder)
        except Exception as error:  # the cell is the person's, and runs whatever happens to us
            print(f"taomagic can't prepare this notebook: {error}")
        # IPython has gathered its transformers for this cell already.
        for hook in [each for each in hooks if each not in before]:
            lines = hook(lines)
        return lines


def _prepare(shell: Any, folder: str) -> None:
    from pathlib import Path

    from taomagic.notebook import kernel

    kernel.prepare(shell, folder=Path(folder))
    print(kernel.prepared_notice())

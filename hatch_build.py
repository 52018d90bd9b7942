"""Puts what JupyterLab and its server look for beside the package: the built extension, and the word to load it.

`make labextension` builds the extension from `labextension/`. The wheel and the source archive carry the result
along, so that installing them needs no Node.js.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUILT = "build/labextension"
TARGET = "share/jupyter/labextensions/taomagic"
SERVER_CONFIG = "taomagic/server/jupyter_server_config.json"
SERVER_TARGET = "etc/jupyter/jupyter_server_config.d/taomagic.json"


class LabExtensionHook(BuildHookInterface):
    """Adds the extension where it has been built."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add to the files of the wheel or archive; an editable install gets the extension by `make labextension`."""
        root = Path(self.root)
        if self.target_name == "wheel" and (root / SERVER_CONFIG).is_file():
            build_data["shared_data"][SERVER_CONFIG] = SERVER_TARGET
        if version == "editable" or not (root / "labextension").is_dir():
            return
        if not (root / BUILT / "package.json").is_file():
            self.app.display_warning("Without the JupyterLab extension: `make labextension` builds it.")
        elif self.target_name == "sdist":
            build_data["force_include"][BUILT] = BUILT
        else:
            build_data["shared_data"][BUILT] = TARGET
            # Says in `jupyter labextension list` how to get rid of it.
            build_data["shared_data"]["labextension/install.json"] = f"{TARGET}/install.json"

"""Makes ``catalog.json`` from ``catalog.toml``: ``python -m taomagic.launcher.catalog_build``.

People edit the TOML file; `tao` reads the JSON file, because importing and running the TOML parser takes 15 ms.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

SOURCE = Path(__file__).with_name("catalog.toml")
TARGET = Path(__file__).with_name("catalog.json")


def build() -> str:
    """Return the text of ``catalog.json``."""
    return json.dumps(tomllib.loads(SOURCE.read_text(encoding="utf-8")), indent=1) + "\n"


if __name__ == "__main__":
    TARGET.write_text(build(), encoding="utf-8")
    print(f"Wrote {TARGET}")

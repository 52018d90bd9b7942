"""What this processor can do in eight bits."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path


@cache
def multiplies_bytes() -> bool:
    """Tell whether this processor adds up products of bytes without overflow (VNNI on x86; always on ARM)."""
    if platform.machine().lower() not in {"x86_64", "amd64", "i686"}:
        return True
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False  # not Linux: seven bits are right everywhere
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return "vnni" in flags

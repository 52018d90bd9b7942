"""``status.json``: one JSON object a line, appended, as NVIDIA's containers write it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

#: Where a command that was given no results folder records its status: the launcher names the job's folder.
FOLDER_VARIABLE = "TAOMAGIC_STATUS_DIR"

State = Literal["STARTED", "RUNNING", "SUCCESS", "FAILURE", "SKIPPED"]


class StatusLog:
    """Appends records to ``<results_dir>/status.json``.

    Parameters
    ----------
    results_dir
        Folder on this machine, created if missing. ``None`` (some sub-tasks have no results folder) writes to the
        folder that ``TAOMAGIC_STATUS_DIR`` names, and nothing where that isn't set.
    """

    def __init__(self, results_dir: Path | None) -> None:
        if results_dir is None and os.path.isdir(folder := os.environ.get(FOLDER_VARIABLE, "")):  # noqa: PTH112
            results_dir = Path(folder)
        self._path = results_dir / "status.json" if results_dir is not None else None
        if results_dir is not None:
            results_dir.mkdir(parents=True, exist_ok=True)

    def write(
        self,
        status: State,
        message: str,
        *,
        payload: Mapping[str, Any] | None = None,
        kpi: Mapping[str, Any] | None = None,
        graphical: Mapping[str, Any] | None = None,
        categorical: Mapping[str, Any] | None = None,
    ) -> None:
        """Append one record; keys come in the original's order."""
        if self._path is None:
            return
        now = datetime.now().astimezone()
        record: dict[str, Any] = {
            **(payload or {}),
            "date": f"{now.month}/{now.day}/{now.year}",
            "time": f"{now.hour}:{now.minute}:{now.second}",
            "status": status,
            "verbosity": "ERROR" if status == "FAILURE" else "INFO",
            "message": message,
        }
        for key, part in (("categorical", categorical), ("graphical", graphical), ("kpi", kpi)):
            if part:
                record[key] = dict(part)
        line = json.dumps(record, ensure_ascii=False) + "\n"
        with self._path.open("a+b") as file:
            # A full disk or a kill may have cut the last record off; this one must not be joined to it.
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = "\n" + line
            file.write(line.encode())

"""The TFRecord files that a pattern in an experiment file means."""

from __future__ import annotations

from glob import glob
from pathlib import Path

from taomagic.errors import DataProblem
from taomagic.project.paths import PathMap

#: What lies beside the records and often matches their pattern: indexes, lists of bad boxes, notes and logs.
_BESIDE = (".json", ".txt", ".log")


def record_files(
    pattern: str, paths: PathMap, *, message: str = "no TFRecord file matches the pattern"
) -> list[tuple[Path, str]]:
    """Return the TFRecord files that a pattern matches, sorted, here and as the person knows them.

    Parameters
    ----------
    pattern
        As the person wrote it, absolute.
    paths
        Translates it.
    message
        What to say if there is none.

    Raises
    ------
    DataProblem
        There is none.
    """
    matches = sorted(Path(name) for name in glob(str(paths.to_host(pattern))))  # noqa: PTH207 - it is absolute
    found = [
        path
        for path in matches
        if path.is_file() and not path.name.startswith(("idx-", ".")) and path.suffix not in _BESIDE
    ]
    if found:
        return [(path, paths.to_container(path)) for path in found]
    hint = "run dataset_convert first"
    if len(matches) == 1 and matches[0].is_dir():
        hint = f"this is a folder; its files are {pattern.rstrip('/')}/*"
    raise DataProblem(message, where=pattern, hint=hint)

"""DetectNet_v2's table of average precisions, which has no word in its rows that would tell them from other lines.

Releases 3 and 4 print it with blanks, release 5 with a frame; both in percent::

    class name      average precision (in %)      +------------+--------------------------+
    ------------  --------------------------      | class name | average precision (in %) |
    car                              82.7706      +------------+--------------------------+
                                                  |    car     |    82.77064523170001     |
"""

from __future__ import annotations

import re

_TITLE = re.compile(r"^\|?\s*class name\s*[ |]\s*average precision \(in %\)\s*\|?$")
_RULE = re.compile(r"^[-+=| ]+$")
_ROW = re.compile(
    r"^\|?\s*(?P<name>\S.{0,200}?)\s*(?:\s\s|\|)\s*(?P<percent>\d{1,3}(?:\.\d{1,40})?(?:e-\d{1,3})?|nan)\s*\|?$"
)


class ClassTable:
    """Reads the rows between the title and the first line that isn't one."""

    def __init__(self) -> None:
        #: Whether the next line may be a row.
        self.open = False

    def read(self, text: str) -> tuple[str, float] | None:
        """Take the next line, and return class and average precision (0 to 1) if it is a row."""
        if not self.open:
            self.open = "class name" in text and _TITLE.match(text) is not None
            return None
        row = _ROW.match(text)
        if row is not None:
            return row["name"], float(row["percent"]) / 100
        self.open = bool(text) and _RULE.match(text) is not None
        return None

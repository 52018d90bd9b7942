"""The forms in which TAO's programs log, release by release, and the noise of their telemetry."""

from __future__ import annotations

import re
from collections.abc import Iterable

_DATE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+"
# Launcher and TF1 to TAO 5, and TAO 6:
#   2026-11-21 09:00:00,123 [TAO Toolkit] [INFO] iva.ssd.train 42: text        (to TAO 4 without product and number)
#   2026-11-21 09:00:00,123 - [TAO Toolkit] - INFO - text (entrypoint.py:355)
_DATED = re.compile(
    rf"^{_DATE} (?:(?:\[TAO Toolkit\] )?\[([A-Z]+)\] [^\s:]+(?: \d+)?:(?: |$)(.*)"
    r"|- \[TAO Toolkit\] - ([A-Z]+) - (.*?)(?: \([\w.]+\.py:\d+\))?)$"
)
# PyTorch, TF2, deploy; and Hydra's own:
#   [2026-11-21 09:00:00,123 - TAO Toolkit - root - INFO] text
#   [2026-11-21 09:00:00,123][root][INFO] - text
_BRACKETED = re.compile(
    rf"^\[{_DATE}(?: - TAO Toolkit - .{{1,200}}? - ([A-Z]+)\]"
    r"|\]\[[^\]]*\]\[([A-Z]+)\] -) (.*)$"
)
# Python's default: INFO:root:text
_BASIC = re.compile(r"^(?P<level>INFO|WARNING|ERROR|CRITICAL):[\w.]+:(?P<text>\S.*)$")
_BASIC_LEVELS = ("INFO:", "WARNING:", "ERROR:", "CRITICAL:")
#: A record right behind a progress bar that wasn't ended.
RECORD_INSIDE = re.compile(rf"\](?P<rest>\[?{_DATE} ?.*)$")
# mpirun and horovodrun tell whose line it is.
_RANK = re.compile(r"^\[\d+(?:,\d+)?\]<std(?:out|err)>:\s?")
# nvidia_tao_core.telemetry and the entry points: what they print before, while and after they report a run.
_TELEMETRY = re.compile(
    r"^(?:telemetry (?:data|reporting|script|server|request|sent|could|can|fail|error|time)"
    r"|(?:sending|reporting|opted out of|(?:couldn't|could not|failed to|unable to) (?:send|report)) (?:\w+ )?telemetry"
    r"|=*> (?:start|end) reporting telemetry)",
    re.IGNORECASE,
)
_REASON = re.compile(r"^(?:\[(?:Error|ERROR|Warning|WARNING)\]:|<urlopen error|HTTPS?ConnectionPool)")
_NO_REPORT = ("Execution status: ", "Traceback ")
#: Longest report of telemetry, in lines.
_REPORT_LINES = 20


def split_log(text: str) -> tuple[str, str] | None:
    """Return level and message of a line that Python's logging wrote in one of TAO's forms; else ``None``."""
    first = text[:1]
    if first.isdigit():
        if match := _DATED.match(text):
            level, message, level_6, message_6 = match.groups()
            return (level, message or "") if level else (level_6, message_6)
    elif first == "[":
        if match := _BRACKETED.match(text):
            level, level_hydra, message = match.groups()
            return level or level_hydra, message
    elif text.startswith(_BASIC_LEVELS) and (match := _BASIC.match(text)):
        return match["level"], match["text"]
    return None


def without_rank(text: str) -> str:
    """Return a line without the rank that mpirun or horovodrun put in front of it."""
    return _RANK.sub("", text)


class Telemetry:
    """Recognises what NVIDIA's containers print about their telemetry.

    "Telemetry data couldn't be sent, but the command ran successfully." appears after failures, too, and the reason for
    it looks like the reason for them (nvidia-tao issue 7).
    """

    def __init__(self) -> None:
        self._report = 0  # lines of a report that are still believed to come
        self._reason = False  # whether the reason may come next

    @property
    def open(self) -> bool:
        """Whether the next line may belong to telemetry without naming it."""
        return self._report > 0 or self._reason

    def takes(self, line: str) -> bool:
        """Tell whether a line belongs to telemetry; lines come in their order."""
        if not (self.open or "elemetry" in line):
            return False
        logged = split_log(line)
        text = (logged[1] if logged else without_rank(line)).strip()
        if _TELEMETRY.match(text):
            self._report = _REPORT_LINES if "start reporting" in text.lower() else 0
            self._reason = True
            return True
        if not text:
            return False
        # TAO 6 writes each record three times, so that the reason may come three times, too.
        self._reason = self._reason and bool(_REASON.match(text))
        if self._report and not text.startswith(_NO_REPORT):
            self._report -= 1
            return True
        self._report = 0
        return self._reason


def without_noise(lines: Iterable[str]) -> list[str]:
    """Return the lines of a log that aren't about telemetry."""
    telemetry = Telemetry()
    return [text for text in lines if not telemetry.takes(text)]

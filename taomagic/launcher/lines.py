"""Bytes in any chunks -> lines of text without colours; the same bytes give the same lines however they were cut."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from taomagic.launcher.events import Level, Line
from taomagic.launcher.log_forms import split_log

#: Longest line kept, in characters. The rest of a longer one is dropped, and the line says so.
LINE_LIMIT = 8192

# CSI and OSC sequences, two-character escapes, and an escape cut off at the end of the text.
_ANSI = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_]|\[[0-?]*[ -/]*$|\][^\x07\x1b]*$|$)"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
# The marks of the engine's own summary.
_MARK = re.compile(r"^(?P<kind>ERROR|HINT|WARNING): ")


class LineReader:
    r"""Bytes in any chunks -> lines.

    ``\n`` and ``\r\n`` end a line; a lone ``\r`` ends a transient one. A transient line is reported at once,
    so a bar that stands still is seen; if ``\n`` follows directly, the same text is reported again as a final
    line.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending: list[str] = []
        self._length = 0
        self._returned: str | None = None  # the transient line that a directly following "\n" makes final

    def feed(self, data: bytes) -> Iterator[Line]:
        """Yield the lines that ``data`` completes."""
        yield from self._split(self._decoder.decode(data))

    def close(self) -> Iterator[Line]:
        """Yield what is left: a last line without its end."""
        yield from self._split(self._decoder.decode(b"", final=True))
        if self._length:
            yield self._take(transient=False)

    def _split(self, text: str) -> Iterator[Line]:
        if self._returned is None and "\r" not in text:
            yield from self._split_plain(text)
            return
        start = 0
        for match in re.finditer(r"[\r\n]", text):
            self._keep(text[start : match.start()])
            start = match.end()
            if match.group() == "\r":
                if self._returned is not None and not self._length:
                    continue  # a doubled "\r" changes nothing on the screen
                line = self._take(transient=True)
                self._returned = line.text
                yield line
            elif self._returned is not None and not self._length:
                text_of_bar, self._returned = self._returned, None
                yield line_of(text_of_bar, transient=False)
            else:
                self._returned = None
                yield self._take(transient=False)
        self._keep(text[start:])

    def _split_plain(self, text: str) -> Iterator[Line]:
        """Do the same for text without bars, which is most of it, in half the time."""
        first, *others = text.split("\n")
        self._keep(first)
        if not others:
            return
        yield self._take(transient=False)
        for part in others[:-1]:
            if len(part) <= LINE_LIMIT:
                yield line_of(clean(part), transient=False)
            else:
                self._keep(part)
                yield self._take(transient=False)
        self._keep(others[-1])

    def _keep(self, text: str) -> None:
        if text:
            room = LINE_LIMIT - self._length
            if room > 0:
                self._pending.append(text[:room])
            self._length += len(text)
            self._returned = None

    def _take(self, *, transient: bool) -> Line:
        text, cut = "".join(self._pending), self._length - LINE_LIMIT
        self._pending.clear()
        self._length = 0
        return line_of(clean(text) + (f" … [{cut} characters more]" if cut > 0 else ""), transient=transient)


def clean(text: str) -> str:
    """Remove colours, cursor movements and control characters; tabs become blanks."""
    if text.isprintable():  # almost every line; the patterns cost ten times as much
        return text.rstrip()
    return _CONTROL.sub("", _ANSI.sub("", text)).replace("\t", "    ").rstrip()


def line_of(text: str, *, transient: bool) -> Line:
    """Return a line with the level that its record has."""
    return Line(text, transient=transient, level=_level(text))


def _level(text: str) -> Level:
    if not text[:1].isdigit() and text[:1] not in "[ICEW":
        return ""  # almost every line
    logged = split_log(text)
    match = _MARK.match(text) if logged is None else None
    word = logged[0] if logged else match["kind"] if match else ""
    if word in {"ERROR", "CRITICAL", "FATAL"}:
        return "ERROR"
    if word in {"WARNING", "WARN"}:
        return "WARNING"
    return "INFO" if word == "INFO" else ""

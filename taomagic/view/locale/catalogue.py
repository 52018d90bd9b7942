"""A catalogue of translated templates, and the search for the one that a finished text was made from.

A template is a text with named places, ``There is no such {what}.``. A finished text belongs to the template whose
fixed parts it has, in order; of several, to the one with the longest fixed parts. What stands in the places is
translated in turn if it is a text itself, never if it is a single word: that is a name, a number or a path.

Nothing here knows which language it is, except for the typography: see :func:`joined`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

#: The catalogue, in gettext's format, one line a text.
CHINESE = Path(__file__).with_name("zh_CN.po")
#: Texts kept with their translation; the same few hundred are shown again and again.
REMEMBERED = 2048

_PLACE = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r"[A-Za-z]+")
#: A number, or the place for one that a page's script fills in.
_DIGIT = re.compile(r"\d|^\{\w+\}$")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
#: Quotation marks and dashes that Chinese shares with Latin scripts; there, a blank beside them counts.
_SHARED = "“”‘’…—"
#: What separates texts that have nothing to do with each other; no place of a template reaches over it.
_SEPARATORS = ("\n", " · ")
#: What separates the columns of a table in plain text.
_COLUMNS = re.compile(r"( {2,})")
#: Signs that stand in front of a text, with a blank.
_SIGNS = "✓✗■▶!?•…"
#: Where a text can be taken apart: behind a sentence, and behind the place where something is wrong.
_END = re.compile(r"(?<=[.?!:;])\s+")


def read(path: Path = CHINESE) -> Catalogue:
    """Return the catalogue in a file."""
    return Catalogue(entries(path.read_text("utf-8")))


def entries(text: str) -> dict[str, str]:
    """Return the templates and their translations in the text of a ``.po`` file; untranslated ones are left out."""
    found = {}
    for entry in text.split('\nmsgid "')[1:]:
        source, _, rest = entry.partition('"\nmsgstr "')
        target = rest.partition('"\n')[0]
        if "\\" in entry:
            source, target = unescaped(source), unescaped(target)
        if source and target:
            found[source] = target
    return found


def unescaped(text: str) -> str:
    """Return a text of the file as it is meant: without its backslashes."""
    if "\\\\" not in text:
        return text.replace('\\"', '"').replace("\\n", "\n").replace("\\t", "\t")
    return _ESCAPED.sub(lambda match: {"n": "\n", "t": "\t"}.get(match[1], match[1]), text)


def places(template: str) -> list[str]:
    """Return the names of a template's places, in order. A brace that means itself is doubled."""
    return _PLACE.findall(_without_braces(template))


def _without_braces(template: str) -> str:
    return template.replace("{{", "\1").replace("}}", "\2")


def _with_braces(text: str) -> str:
    return text.replace("\1", "{").replace("\2", "}")


def _framed(text: str) -> tuple[str, str, str]:
    """Return what stands in front of a text (blanks, a sign), the text itself, and the blanks behind it."""
    inner = text.strip()
    if len(inner) > 2 and inner[0] in _SIGNS and inner[1].isspace():
        inner = inner[2:].lstrip()
    begin = text.find(inner)
    return text[:begin], inner, text[begin + len(inner) :]


def _is_quantity(value: str) -> bool:
    """Tell whether a value is a number with its unit, a name with a number, or nothing at all."""
    return not value or (_DIGIT.search(value) is not None and value.count(" ") < 4)


class Template(NamedTuple):
    """A template taken apart: its fixed parts (one more than places) and the names of its places."""

    fixed: tuple[str, ...]
    names: tuple[str, ...]
    #: Whether it is so short (`{done} of {total}`) that anybody's sentence could have been made from it. Then its
    #: places are those of numbers.
    weak: bool

    @classmethod
    def of(cls, text: str) -> Template:
        """Take a template apart."""
        parts = _PLACE.split(_without_braces(text))
        fixed = tuple(map(_with_braces, parts[::2]))
        told = " ".join(fixed)
        return cls(fixed, tuple(parts[1::2]), len(_WORD.findall(told)) < 2 and ":" not in told)

    def values(self, text: str) -> list[str] | None:
        """Return what stands in the places of a finished text; ``None`` if it wasn't made from this template."""
        first, *inner, last = self.fixed if self.names else (*self.fixed, "")
        if not self.names:
            return [] if text == first else None
        end = len(text) - len(last)
        if not (text.startswith(first) and text.endswith(last) and end >= len(first)):
            return None
        found, at = [], len(first)
        for part in inner:
            # The first place that fits leaves the most room for what follows: no need to try others.
            place = text.find(part, at, end)
            if place < 0:
                return None
            found.append(text[at:place])
            at = place + len(part)
        found.append(text[at:end])
        return None if self.weak and not all(map(_is_quantity, found)) else found

    def filled(self, values: Mapping[str, str]) -> str:
        """Return the text with its places filled, without blanks between wide characters that met there."""
        text = self.fixed[0]
        for name, part in zip(self.names, self.fixed[1:], strict=True):
            text = joined(joined(text, values[name]), part)
        return text


def joined(left: str, right: str) -> str:
    """Return two pieces as one, with a blank at their seam between ideographs and Latin letters, and only there."""
    if left and right:
        if left.endswith(" ") and _wide(left[-2:-1]) and _wide(right[0]):
            return left[:-1] + right
        if right.startswith(" ") and _wide(right[1:2]) and _wide(left[-1]):
            return left + right[1:]
        if (_ideograph(left[-1]) and _latin(right[0])) or (_latin(left[-1]) and _ideograph(right[0])):
            return f"{left} {right}"
    return left + right


# Not patterns: `re` takes 10 ms to compile a class of so many characters.


def _wide(character: str) -> bool:
    """Tell whether a character is an ideograph, Chinese punctuation or a full-width form."""
    return (
        "\u2e80" <= character <= "\u9fff" or "\uf900" <= character <= "\uffef" or character in tuple(_SHARED)
    )


def _ideograph(character: str) -> bool:
    return "\u3400" <= character <= "\u9fff"


def _latin(character: str) -> bool:
    return character.isascii() and character.isalnum()


class Catalogue:
    """Translates finished texts.

    Parameters
    ----------
    translations
        Template -> translation.
    """

    def __init__(self, translations: Mapping[str, str]) -> None:
        self._whole: dict[str, str] = {}
        # By the word that they begin with; else by a word that they contain, the longest: few templates share it.
        self._by_start: dict[str, list[tuple[str, str]]] = {}
        self._by_word: dict[str, list[tuple[str, str]]] = {}
        for source, target in translations.items():
            place = source.find("{")
            if place < 0:
                self._whole[source] = target
            elif (blank := source.find(" ", 0, place)) > 0:
                self._by_start.setdefault(source[:blank], []).append((source, target))
            else:
                words = _WORD.findall(_PLACE.sub("0", source)) or [""]
                self._by_word.setdefault(max(words, key=len), []).append((source, target))
        self._template = lru_cache(maxsize=None)(Template.of)
        self.translate: Callable[[str], str] = lru_cache(maxsize=REMEMBERED)(self._translate)

    def _translate(self, text: str) -> str:
        """Return a text, translated as far as it is known."""
        if text in self._whole:
            return self._whole[text]
        front, inner, end = _framed(text)
        if inner and inner != text:
            return front + self.translate(inner) + end
        found = self._known(text)
        if found is None and text.endswith(".") and " " in text:
            # A message of somebody else's, e.g. argparse's, made a sentence.
            found = self._known(text[0].lower() + text[1:-1])
            found = found and f"{found}。"
        if found is not None:
            return found
        for separator in _SEPARATORS:
            if separator in text:
                return separator.join(self.translate(part) for part in text.split(separator))
        columns = _COLUMNS.split(text)
        if len(columns) > 1:
            return "".join(self.translate(part) if i % 2 == 0 else part for i, part in enumerate(columns))
        return self._in_pieces(text)

    def _known(self, text: str) -> str | None:
        """Return the translation of a text that a template gives as a whole."""
        if text in self._whole:
            return self._whole[text]
        best: tuple[tuple[int, int], Template, list[str], str] | None = None
        for source, target in self._candidates(text):
            template = self._template(source)
            values = template.values(text)
            if values is None or any(separator in value for value in values for separator in _SEPARATORS):
                continue
            rank = (sum(map(len, template.fixed)), -len(values))
            if best is None or rank > best[0]:
                best = rank, template, values, target
        if best is None:
            return None
        _, template, values, target = best
        told = {name: self._value(value) for name, value in zip(template.names, values, strict=True)}
        return self._template(target).filled(told)

    def _candidates(self, text: str) -> Iterable[tuple[str, str]]:
        yield from self._by_start.get(text.partition(" ")[0], ())
        for word in {*_WORD.findall(text), ""}:
            yield from self._by_word.get(word, ())

    def _value(self, value: str) -> str:
        return self.translate(value) if " " in value.strip() else value

    def _in_pieces(self, text: str) -> str:
        """Translate sentences one by one, the longest known beginning first; also what stands behind ``place:``."""
        facts = [self._known(part) for part in text.split("; ")]
        if len(facts) > 1 and None not in facts:
            return "；".join(fact or "" for fact in facts)
        ends = [match.span() for match in _END.finditer(text)]
        for begin, end in reversed(ends):
            # A word and a colon may be anybody's.
            known = self._known(text[:begin]) if " " in text[:begin] else None
            if known is not None:
                return _sentence_by_sentence(known, self._value(text[end:]))
        if ends:
            end = ends[0][1]
            return text[:end] + self._value(text[end:])
        return text


def _sentence_by_sentence(first: str, rest: str) -> str:
    """Return sentences one after the other; behind a wide full stop stands no blank."""
    return first + rest if _wide(first[-1:]) else f"{first} {rest}"

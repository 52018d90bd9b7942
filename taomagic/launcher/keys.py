"""The key of model files on a command line: found, taken out, starred, wherever and however it is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

#: What takes the place of a key on every screen and in every record.
MASK = "********"
#: Tells the supervisor of a job what the stars in its record stand for: a list in JSON.
MASKED_VARIABLE = "TAOMAGIC_MASKED"

# The newer tasks take settings as words (encryption_key=…, export.key=…), a shell variables (NGC_API_KEY=…).
_SETTING = r"-{0,2}(?:\w[\w.-]*[._-])?(?:api)?(?:key|token|password|secret)="
# A word with blanks is a command line of its own: sh -c 'ssd train -k …'.
_FLAG = r"(?:-k|--k(?:ey?)?)(?:\s+|=)|-k(?=[^\s=])"
_IN_LINE = rf"((?:^|(?<=[\s;|&(]))(?:{_FLAG}|{_SETTING}))('[^']*'|\"[^\"]*\"|[^\s;|&)]+)"


def split_key(args: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
    """Return the words without ``-k``/``--key``, and the key (``None`` where there is none; the last one counts)."""
    kept: list[str] = []
    key: str | None = None
    rest = iter(args)
    for word in rest:
        form = _key_form(word)
        if form == "next":
            key = next(rest, "")
        elif form == "equals":
            key = word.partition("=")[2]
        elif form == "joined":
            key = word[2:].removeprefix("=")
        else:
            kept.append(word)
    return tuple(kept), key


def find_key(args: Sequence[str]) -> str | None:
    """Return the key: the value of ``-k``/``--key``, else of a setting ``…key=``, else one in a nested command line."""
    if (key := split_key(args)[1]) is not None:
        return key
    for word in args:
        if (start := _setting(word)) and not _has_blank(word):
            return word[len(start) :]
        if _has_blank(word) and (found := re.search(_IN_LINE, word, re.IGNORECASE)):
            return found[2].strip("'\"")
    return None


def find_keys(args: Sequence[str]) -> tuple[str, ...]:
    """Return every key, each once: a command may have several, one for its model and one of a service, say."""
    return tuple(dict.fromkeys(without_quotes(masked_keys(args))))


def mask_key(args: Sequence[str]) -> tuple[str, ...]:
    """Return the words with every key that :func:`find_keys` finds replaced by stars."""
    return tuple(shown for shown, _ in _walk(args))


def masked_keys(args: Sequence[str]) -> tuple[str, ...]:
    """Return what :func:`mask_key` replaced, as it was written, in the order of its stars."""
    return tuple(key for _, keys in _walk(args) for key in keys)


def unmasked(args: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Undo :func:`mask_key`: put :func:`masked_keys` in place of the stars."""
    rest = iter(keys)
    return [re.sub(re.escape(MASK), lambda stars: next(rest, stars[0]), word) for word in args]


def without_quotes(keys: Iterable[str]) -> list[str]:
    """Return keys as a program gets them that were written in a command line of a shell."""
    return [key.strip("'\"") for key in keys]


def _walk(args: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each word as it may be shown, and the keys that it held."""
    rest = iter(args)
    for word in rest:
        form = _key_form(word)
        if form is None:
            yield _mask_word(word)
        elif form == "next":
            yield word, []
            if (key := next(rest, None)) is not None:
                yield MASK, [key]
        else:
            start = f"{word.partition('=')[0]}=" if form == "equals" else "-k"
            yield start + MASK, [word[len(start) :]]


def _key_form(word: str) -> str | None:
    """Tell how a word carries a key: ``"next"`` word, ``"equals"``, ``"joined"`` (``-kX``), or not at all."""
    name, equals, _ = word.partition("=")
    # argparse takes unique abbreviations: --k, --ke and --key all mean the key.
    if name in {"--key", "--ke", "--k"}:
        return "equals" if equals else "next"
    if word == "-k":
        return "next"
    return "joined" if word.startswith("-k") and len(word) > 2 else None


def _mask_word(word: str) -> tuple[str, list[str]]:
    if start := _setting(word):
        return start + MASK, [word[len(start) :]]  # to its end: a value may have blanks
    if not _has_blank(word):
        return word, []
    keys = [found[2] for found in re.finditer(_IN_LINE, word, re.IGNORECASE)]
    return re.sub(_IN_LINE, rf"\1{MASK}", word, flags=re.IGNORECASE), keys


def is_secret(variable: str) -> bool:
    """Tell whether the value of an environment variable is nobody's business, by its name."""
    return bool(_setting(f"{variable}="))


def _setting(word: str) -> str:
    """Return ``…key=`` where a word begins so; regular expressions are slow to compile, and seldom needed."""
    found = re.match(_SETTING, word, re.IGNORECASE) if "=" in word else None
    return found.group() if found else ""


def _has_blank(word: str) -> bool:
    return any(char.isspace() for char in word)

"""What may stand at the cursor in an experiment file: fields of the block that it is in, and values of enumerations."""

from __future__ import annotations

import re
from typing import Any

# Strings and comments hide braces; a block begins with its name.
_TOKEN = re.compile(
    r'"[^"\n]*"?|\'[^\'\n]*\'?|#[^\n]*|(?P<name>[A-Za-z_]\w*)\s*:?\s*\{|(?P<open>\{)|(?P<close>\})'
)
_WORD = re.compile(r"(?:(?P<field>[A-Za-z_]\w*)\s*:\s*)?(?P<word>[A-Za-z_]\w*)?\Z")


def spec_words(name: str, text: str) -> tuple[str, tuple[str, ...]]:
    """Return the word at the cursor, and what may stand in its place.

    Parameters
    ----------
    name
        The file's name, which tells what it is for while the text doesn't yet.
    text
        The file up to the cursor.
    """
    line = text.rpartition("\n")[2]
    if re.sub(r'"[^"]*"', "", line).count('"') or "#" in line:
        return "", ()  # in a string or a comment
    match = _WORD.search(line)
    word = (match["word"] or "") if match else ""
    message = _message(name, text)
    if message is None or match is None:
        return word, ()
    fields = message.fields_by_name
    if match["field"]:
        field = fields.get(match["field"])
        kind = field.enum_type if field is not None else None
        values = [value.name for value in kind.values] if kind is not None else []
        if field is not None and field.cpp_type == field.CPPTYPE_BOOL:
            values = ["true", "false"]
        return word, tuple(value for value in values if value.startswith(word))
    return word, tuple(sorted(field for field in fields if field.startswith(word)))


def _message(name: str, text: str) -> Any:
    """Return the description of the block at the end of a text; ``None`` where a name on the way to it is unknown."""
    from taomagic.spec.kinds import message_of  # protobuf is needed here only

    blocks: list[str] = []
    for token in _TOKEN.finditer(text):
        if token["name"] or token["open"]:
            blocks.append(token["name"] or "")
        elif token["close"] and blocks:
            blocks.pop()
    found = message_of(text, name=name)
    for block in blocks:
        field = found.fields_by_name.get(block)
        if field is None or field.message_type is None:
            return None
        found = field.message_type
    return found

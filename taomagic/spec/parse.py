"""Read an experiment file: protobuf text format in, a message and the line of each field out."""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, cast

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from taomagic.errors import SpecProblem

__all__ = ["SpecFile", "parse_spec", "read_spec", "read_text"]

M = TypeVar("M", bound=Message)

# A value may be as long as the file, and has to be recognised only.
_LONGEST_MESSAGE: Final = 600

# An experiment file has some thousand characters. A larger one is something else: a model, an archive, a log.
_LARGEST_BYTES: Final = 1_000_000


@dataclass(frozen=True)
class SpecFile(Generic[M]):
    """A parsed experiment file.

    Parameters
    ----------
    path
        The name to show in messages.
    text
        What the file says.
    message
        Its content.
    """

    path: str
    text: str
    message: M

    def line_of(self, field: str) -> int | None:
        """Return the 1-based line on which a field stands, or ``None`` if the file doesn't have it.

        Parameters
        ----------
        field
            Names joined by dots, with an index for repeated fields and maps, e.g.
            ``training_config.num_epochs`` or ``dataset_config.data_sources[1].tfrecords_path``. Without an
            index the first one is meant. The value of a map goes by its key: ``target_class_config["car"].deadzone``.
        """
        return self._lines.get(re.sub(r"\[0\]", "", field))

    def problem(self, message: str, *, field: str = "", hint: str = "") -> SpecProblem:
        """Return a problem that points at a field or, if the file doesn't have it, at its block."""
        line = None
        while field and line is None:
            line = self.line_of(field)
            field = field.rpartition(".")[0]
        return SpecProblem(_shortened(message), path=self.path, line=line, hint=hint)

    @cached_property
    def _lines(self) -> dict[str, int]:
        lines: dict[str, int] = {}
        keys: dict[str, str] = {}
        for field, line, token in _walk(text_format.Tokenizer(self.text.split("\n"))):
            lines.setdefault(field, line)
            if field.endswith(".key"):
                keys[field.removesuffix(".key")] = token.strip("'\"")
        return lines | _by_key(lines, keys)


def read_spec(path: Path, message_type: type[M], *, shown_as: str | None = None) -> SpecFile[M]:
    """Read and parse an experiment file.

    Parameters
    ----------
    path
        The file on this machine.
    message_type
        What it should contain, e.g. ``ssd_pb2.Experiment``.
    shown_as
        The name to use in messages; ``path`` if not given.

    Returns
    -------
    SpecFile
        The text, the message, the lines.

    Raises
    ------
    SpecProblem
        If the file can't be read, is no text in UTF-8, or doesn't fit the message.
    """
    name = shown_as if shown_as is not None else str(path)
    return parse_spec(read_text(path, shown_as=name), message_type, name=name)


def read_text(path: Path, *, shown_as: str | None = None) -> str:
    """Return the text of an experiment file, without a byte order mark, its line ends made uniform.

    Raises
    ------
    SpecProblem
        If it is missing, a folder, not readable, too large, or not text in UTF-8.
    """
    name = shown_as if shown_as is not None else str(path)
    try:
        if path.is_dir():
            hint = "Name the file in it."
            raise SpecProblem("this is a folder, not an experiment file", path=name, hint=hint)
        size = path.stat().st_size
        if size > _LARGEST_BYTES:
            hint = "Give the .txt file with the experiment; models belong after -m."
            raise SpecProblem(f"too large for an experiment file ({size:,} bytes)", path=name, hint=hint)
        data = path.read_bytes()
    except FileNotFoundError:
        raise SpecProblem("there is no such file", path=name, hint=_hint_for_missing(path)) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SpecProblem(
            f"can't read the file: {reason}", path=name, hint="Check its permissions."
        ) from None
    return _decode(data, name)


def _decode(data: bytes, name: str) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise SpecProblem("the file is encoded in UTF-16", path=name, line=1, hint="Save it as UTF-8.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"the file is not UTF-8 text (byte 0x{data[error.start]:02x})"
        hint = "Save it as UTF-8; only comments and paths should hold anything but plain ASCII."
        raise SpecProblem(what, path=name, line=line, hint=hint) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        hint = "Give the .txt file with the experiment."
        raise SpecProblem("the file is not text", path=name, line=line, hint=hint)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _hint_for_missing(path: Path) -> str:
    try:
        names = sorted(entry.name for entry in path.parent.iterdir() if entry.is_file())
    except (OSError, ValueError):
        return f"The folder {path.parent} doesn't exist either."
    near = difflib.get_close_matches(path.name, names, n=1)
    if near:
        return f"Did you mean {near[0]}?"
    return f"Files in {path.parent}: {', '.join(names[:10]) or 'none'}"


def parse_spec(text: str, message_type: type[M], *, name: str) -> SpecFile[M]:
    """Parse the text of an experiment file.

    Parameters
    ----------
    text
        Protobuf text format.
    message_type
        What it should contain.
    name
        The file's name in messages.

    Returns
    -------
    SpecFile
        The text, the message, the lines.

    Raises
    ------
    SpecProblem
        If a field is unknown, a value is of the wrong kind, or the syntax is wrong; with the line and, for
        names, the nearest valid one.
    """
    message = message_type()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise _explain(error, text, cast(Descriptor, message_type.DESCRIPTOR), name) from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise SpecProblem(f"can't read the file: {error}", path=name, hint=_GENERAL_HINT) from None
    return SpecFile(name, text, message)


_GENERAL_HINT: Final = "Fields are written `name: value`, blocks `name { … }`."
#: Fields of TLT 2.0's specs, which still circulate.
_RETIRED: Final = (
    "loss_loc_weight",
    "focal_loss_alpha",
    "focal_loss_gamma",
    "validation_fold",
    "image_extension",
)
_TYPOGRAPHIC: Final = "“”‘’：，；｛｝（）［］＂＇\u00a0\u3000"


def _explain(error: text_format.ParseError, text: str, root: Descriptor, name: str) -> SpecProblem:
    """Turn protobuf's message into ours."""
    line = error.GetLine()
    lines = text.split("\n")
    written = lines[line - 1] if line is not None and 0 < line <= len(lines) else ""
    what = re.sub(r"^\d+(:\d+)? : ", "", str(error)).removeprefix(f"'{written}': ").strip()
    unknown = re.match(r'Message type "([\w.]+)" has no field named "(.*)"\.$', what, re.DOTALL)
    if unknown:
        return _explain_unknown_field(unknown[1], unknown[2], root, name, line)
    enum = re.match(r'Enum type "([\w.]+)" has no value (?:named|with number) (.*)\.$', what)
    if enum:
        what = f"there is no value {_shortened(enum[2])} for {enum[1].rpartition('.')[2]}"
        return SpecProblem(
            what, path=name, line=line, hint=f"Values: {', '.join(_enum_values(enum[1], root))}"
        )
    shown = written.strip()
    if line is not None and _may_hold_a_secret("\n".join(lines[:line])):
        what = "the value of key in wandb_config can't be read"
        hint = 'It is a text in quotes: key: "…"; WANDB_API_KEY keeps it out of the file.'
        return SpecProblem(what, path=name, line=line, hint=hint)
    typographic = sorted(set(shown) & set(_TYPOGRAPHIC))
    hint = _GENERAL_HINT
    if typographic:
        what = f"unexpected character {typographic[0]!r}"
        hint = "Use plain quotes and punctuation; web pages and word processors change them."
    elif 'Expected "}"' in what or 'Expected ">"' in what:
        hint = "A block that was opened is not closed."
    elif "should not have multiple" in what or "is specified along with" in what:
        hint = "Keep one of them."
    what = what.replace("taomagic.ssd.", "").rstrip(".")
    what = _shortened(what)
    return SpecProblem(f"{what}: {shown[:100]}" if shown else what, path=name, line=line, hint=hint)


def _shortened(text: str) -> str:
    """Return a message without the middle of what is too long to be read, such as a value of a thousand digits."""
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[: _LONGEST_MESSAGE // 2]} … {text[-100:]}"


def _may_hold_a_secret(text: str) -> bool:
    """Whether a text ends in the line of a ``wandb_config`` that has the key, so that it is not to be shown."""
    opened = list(re.finditer(r"\bwandb_config\s*:?\s*[{<]", text))
    if not opened:
        return False
    inside = text[opened[-1].end() :]
    written = list(re.finditer(r"\bkey\b", inside))
    if not written or "}" in inside[: written[-1].start()]:
        return False
    return "\n" not in inside[written[-1].end() :].strip(" \t:\n")


def _explain_unknown_field(
    owner: str, field: str, root: Descriptor, name: str, line: int | None
) -> SpecProblem:
    messages = _all_messages(root)
    valid = sorted(messages[owner].fields_by_name) if owner in messages else []
    homes = sorted(
        message.name
        for message in messages.values()
        if field in message.fields_by_name and message.full_name != owner
    )
    near = difflib.get_close_matches(field, valid, n=1)
    advice = []
    if field in _RETIRED:
        advice.append(f"TLT 2.0 had {field} here; TAO has not. Remove it.")
    elif near:
        advice.append(f"Did you mean {near[0]}?")
    if homes:
        advice.append(f"{field} belongs in {' or '.join(_blocks_of(homes, messages))}.")
    if valid:
        advice.append(f"Valid names here: {', '.join(valid)}")
    block = " or ".join(_blocks_of([owner.rpartition(".")[2]], messages)) or "the file's top level"
    return SpecProblem(
        f"unknown field {_shortened(field)!r} in {block}", path=name, line=line, hint=" ".join(advice)
    )


def _blocks_of(names: list[str], messages: dict[str, Descriptor]) -> list[str]:
    """Return the names under which messages of these types stand in a file."""
    blocks = {
        field.name
        for message in messages.values()
        for field in message.fields
        if field.message_type is not None and field.message_type.name in names and field.name != "dssd_config"
    }
    return sorted(blocks)


def _all_messages(root: Descriptor) -> dict[str, Descriptor]:
    """Return the message and everything it contains by full name."""
    found: dict[str, Descriptor] = {}
    waiting = [root]
    while waiting:
        message = waiting.pop()
        if message.full_name not in found:
            found[message.full_name] = message
            waiting += [field.message_type for field in message.fields if field.message_type is not None]
    return found


def _enum_values(full_name: str, root: Descriptor) -> list[str]:
    for message in _all_messages(root).values():
        for field in message.fields:
            if field.enum_type is not None and field.enum_type.full_name == full_name:
                return [value.name for value in field.enum_type.values]
    return []


def _by_key(lines: dict[str, int], keys: dict[str, str]) -> dict[str, int]:
    """Return the lines of what stands in maps, under names with the key in place of ``[index].value``."""
    found: dict[str, int] = {}
    for field, line in lines.items():
        name, parts = "", ""
        for part in field.split("."):
            parts = f"{parts}.{part}" if parts else part
            if part == "value" and parts.removesuffix(".value") in keys:
                owner = re.sub(r"\[\d+\]$", "", name)
                name = f'{owner}["{keys[parts.removesuffix(".value")]}"]'
            else:
                name = f"{name}.{part}" if name else part
        # Of two entries with one key the last one counts, in protobuf and here.
        found[name] = line
    return found


def _walk(tokenizer: Any, prefix: str = "", end: str = "") -> Iterator[tuple[str, int, str]]:
    """Yield each field's full name, its line and its first token. The text was parsed, so its syntax is right."""
    seen: dict[str, int] = {}
    while not tokenizer.AtEnd() and not (end and tokenizer.TryConsume(end)):
        line = tokenizer.ParseError("").GetLine()
        name = tokenizer.token
        tokenizer.NextToken()
        tokenizer.TryConsume(":")
        is_list = tokenizer.TryConsume("[")
        while True:
            index = seen.get(name, 0)
            seen[name] = index + 1
            field = f"{prefix}{name}[{index}]" if index else f"{prefix}{name}"
            yield field, line, tokenizer.token
            if tokenizer.TryConsume("{"):
                yield from _walk(tokenizer, f"{field}.", "}")
            elif tokenizer.TryConsume("<"):
                yield from _walk(tokenizer, f"{field}.", ">")
            elif not (is_list and tokenizer.LookingAt("]")):
                _skip_scalar(tokenizer)
            if not is_list:
                break
            if tokenizer.TryConsume("]"):
                break
            tokenizer.TryConsume(",")
            line = tokenizer.ParseError("").GetLine()
        if not tokenizer.TryConsume(","):
            tokenizer.TryConsume(";")


def _skip_scalar(tokenizer: Any) -> None:
    """Step over one value; adjacent strings are one value."""
    is_string = tokenizer.token[:1] in ("'", '"')
    tokenizer.NextToken()
    while is_string and tokenizer.token[:1] in ("'", '"'):
        tokenizer.NextToken()

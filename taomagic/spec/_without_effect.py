"""Fields that a file may have and that do nothing: each is noted, so that nobody waits for its effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from google.protobuf.message import Message

#: What the experiment and the inference file of DetectNet_v2 share.
CLUSTERING_WITHOUT_EFFECT: Final[Mapping[str, str]] = {
    "ClusteringConfig.neighborhood_size": "dbscan_eps decides which cells are neighbours",
}


def without_effect(message: Message, reasons: Mapping[str, str]) -> list[str]:
    """Return a note for each kind of field that is set and has no effect, at its first place.

    Parameters
    ----------
    message
        A file's content.
    reasons
        ``Message.field`` -> why; with a message's name as in the proto, without its package.
    """
    found: dict[str, str] = {}
    for name, path in _set_fields(message, ""):
        if name in reasons:
            found.setdefault(name, f"{path} has no effect; {reasons[name]}")
    return list(found.values())


def _set_fields(message: Message, path: str) -> Iterator[tuple[str, str]]:
    """Yield ``Message.field`` and the dotted path of every field that is set, blocks before what is in them."""
    package = message.DESCRIPTOR.file.package
    kind = message.DESCRIPTOR.full_name.removeprefix(f"{package}.")
    for field, value in message.ListFields():
        here = f"{path}.{field.name}" if path else field.name
        yield f"{kind}.{field.name}", here
        for place, part in _parts(field, value):
            yield from _set_fields(part, f"{here}{place}")


def _parts(field: Any, value: Any) -> Iterator[tuple[str, Message]]:
    """Yield the messages in a field, each with its index or key."""
    if field.message_type is None:
        return
    if field.message_type.GetOptions().map_entry:
        for key in sorted(value):
            if isinstance(value[key], Message):
                yield f'["{key}"]', value[key]
    elif field.is_repeated:
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    else:
        yield "", value

"""Which network's file a text is, told by its blocks: for files that come without a command."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from google.protobuf.message import Message

from taomagic.spec import detectnet_v2_pb2, ssd_pb2
from taomagic.spec._rules_detectnet_v2 import INFERENCE_RULES
from taomagic.spec._rules_detectnet_v2 import RULES as DETECTNET_RULES
from taomagic.spec.parse import parse_spec
from taomagic.spec.rules import Rule
from taomagic.spec.validate import RULES as SSD_RULES
from taomagic.spec.validate import check_ranges

__all__ = ["check_text", "message_of"]


class _Kind(NamedTuple):
    """A file's message, and the rules of its fields."""

    message: type[Message]
    rules: Mapping[str, Rule]


#: In the order in which they are preferred where a text could be several.
_KINDS: Final = (
    _Kind(ssd_pb2.Experiment, SSD_RULES),
    _Kind(detectnet_v2_pb2.Experiment, DETECTNET_RULES),
    _Kind(detectnet_v2_pb2.Inference, INFERENCE_RULES),
    _Kind(ssd_pb2.DatasetExportConfig, SSD_RULES),
)

#: Blocks that only the files of networks without a schema here have.
_OTHER_NETWORKS: Final = re.compile(
    r"(?!ssd_|dssd_)(yolov?\d\w*|retinanet|lprnet|maskrcnn|efficientdet|unet|bpnet|network|data|train|eval|export|"
    r"inference|prune|dataset_convert|dataloader|loss|optimizer|key|enc_key|inference_config|evaluation)(_config)?$"
)


def check_text(text: str, *, name: str) -> bool:
    """Check the text of an experiment file of whatever network it is.

    Parameters
    ----------
    text
        Protobuf text format.
    name
        The file's name in messages.

    Returns
    -------
    bool
        Whether it was checked. Files of networks whose fields aren't known here are not.

    Raises
    ------
    SpecProblem
        A field is unknown or a value is not allowed.
    """
    if name.endswith((".yaml", ".yml", ".json")):
        return False
    blocks = _blocks(text)
    known = _known(blocks)
    best = known.index(max(known))
    foreign = [block for block in blocks if block not in _KINDS[best].message.DESCRIPTOR.fields_by_name]
    if any(_OTHER_NETWORKS.match(block) for block in foreign):
        return False
    kind = _KINDS[best]
    check_ranges(parse_spec(text, kind.message, name=name), kind.rules)
    return True


def message_of(text: str, *, name: str) -> Any:
    """Return the description of the message that a file is, as far as its text and its name tell yet.

    Parameters
    ----------
    text
        The beginning of a file, also an empty one.
    name
        Decides where the text doesn't: NVIDIA's files are called ``ssd_train_…``, ``detectnet_v2_inference_…``.
    """
    known = _known(_blocks(text))
    likely = [kind for kind, count in zip(_KINDS, known, strict=True) if count == max(known)]
    if "tfrecords" in name or "convert" in name:
        wanted: type[Message] = ssd_pb2.DatasetExportConfig
    elif "detectnet" in name:
        wanted = detectnet_v2_pb2.Inference if "inference" in name else detectnet_v2_pb2.Experiment
    else:
        wanted = ssd_pb2.Experiment
    return next((kind for kind in likely if kind.message is wanted), likely[0]).message.DESCRIPTOR


def _blocks(text: str) -> list[str]:
    return re.findall(r"^(\w+)\s*[:{]", _outermost(text), re.MULTILINE)


def _known(blocks: Iterable[str]) -> list[int]:
    """Return how many of the outermost blocks each kind of file has."""
    return [sum(block in kind.message.DESCRIPTOR.fields_by_name for block in set(blocks)) for kind in _KINDS]


def _outermost(text: str) -> str:
    """Return the lines that stand outside all blocks, as far as counting braces can tell."""
    lines, depth = [], 0
    for line in text.splitlines():
        bare = re.sub(r"\"[^\"]*\"|'[^']*'|#.*", "", line)
        if depth == 0:
            lines.append(bare.strip())
        depth = max(0, depth + bare.count("{") - bare.count("}"))
    return "\n".join(lines)

"""From ``visualizer`` to the settings of Weights & Biases and of ClearML."""

from __future__ import annotations

import re
from typing import Any, Final, Literal, cast

from taomagic.spec import ssd_pb2
from taomagic.spec.parse import SpecFile
from taomagic.spec.settings import ClearMLSettings, Secret, WandBSettings
from taomagic.spec.validate import broken

#: The project that NVIDIA's containers report to where a file names none.
_PROJECT: Final = "TAO Toolkit"

_WANDB: Final = "training_config.visualizer.wandb_config"
_CLEARML: Final = "training_config.visualizer.clearml_config"

# deferred_init is a string in NVIDIA's proto, and a bool to ClearML.
_SPELLINGS: Final = {"": False, "0": False, "false": False, "1": True, "true": True}


def resolve_wandb(config: ssd_pb2.WandBConfig, notes: list[str]) -> WandBSettings | None:
    """Return the settings of Weights & Biases, ``None`` where nothing is to be reported; notes are appended."""
    if not config.enabled:
        return None
    mode = ssd_pb2.WandBConfig.Mode.Name(config.mode).lower() if config.HasField("mode") else None
    if mode == "disabled":
        notes.append(f"{_WANDB}.mode: DISABLED reports nothing, though enabled is true")
        return None
    if config.key:
        notes.append(
            f"{_WANDB}.key stands in the file in clear; wandb login or WANDB_API_KEY keep it out of files"
        )
    return WandBSettings(
        key=Secret(config.key) if config.key else None,
        project=config.project or _PROJECT,
        entity=config.entity or None,
        reinit=config.reinit,
        name=config.name or None,
        tags=tuple(config.tags),
        wandb_dir=config.wandb_dir or None,
        notes=config.notes or None,
        mode=cast(Literal["online", "offline"] | None, mode),
    )


def resolve_clearml(spec: SpecFile[Any]) -> ClearMLSettings | None:
    """Return the settings of ClearML, ``None`` where the file has no ``clearml_config``."""
    visualizer = spec.message.training_config.visualizer
    if not visualizer.HasField("clearml_config"):
        return None
    config = visualizer.clearml_config
    deferred = _SPELLINGS.get(config.deferred_init.lower())
    if deferred is None:
        allowed = "one of true, false"
        raise broken(spec, f"{_CLEARML}.deferred_init", config.deferred_init, allowed)
    return ClearMLSettings(
        project=config.project or _PROJECT,
        task=config.task or None,
        tags=tuple(config.tags),
        reuse_last_task_id=config.reuse_last_task_id,
        continue_last_task=config.continue_last_task,
        deferred_init=deferred,
    )


# Real keys have 40 characters and more; replacing a short one everywhere would hit what has nothing to do with it.
_LONG: Final = 20

# Between tokens of an experiment file: blanks and comments. A value may be several strings, which count as one.
_GAP: Final = r"(?:\s|#[^\n]*(?:\n|$))*"
_STRING: Final = r"""(?:"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
_KEY_FIELD: Final = re.compile(rf"\b(key{_GAP}:{_GAP}){_STRING}(?:{_GAP}{_STRING})*")


def without_secrets(spec: SpecFile[Any]) -> str:
    """Return the file's text with ``***`` in place of the key of Weights & Biases, its lines kept where they are."""
    key = spec.message.training_config.visualizer.wandb_config.key
    line = spec.line_of(f"{_WANDB}.key")
    if not key or line is None:
        return spec.text
    # The value as it stands in the field, whatever its spelling, then the same text elsewhere, in a comment say.
    start = sum(len(f"{text}\n") for text in spec.text.split("\n")[: line - 1])
    end = spec.text.find("\n", start)
    text = _KEY_FIELD.sub(
        lambda match: (
            _masked(match) if start <= match.start() and (end < 0 or match.start() < end) else match[0]
        ),
        spec.text,
    )
    return text.replace(key, "***") if len(key) >= _LONG else text


def _masked(match: re.Match[str]) -> str:
    return f'{match[1]}"***"' + "\n" * match[0].removeprefix(match[1]).count("\n")

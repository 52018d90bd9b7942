"""From ``visualizer`` to the settings of Weights & Biases and of ClearML."""

from __future__ import annotations

from typing import Final, Literal, cast

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
    mode = ssd_pb2.WandBConfig.Mode.Name(config.mode).lower()
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
        mode=cast(Literal["online", "offline"], mode),
    )


def resolve_clearml(spec: SpecFile[ssd_pb2.Experiment]) -> ClearMLSettings | None:
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

"""The parts of ``training_config`` that all networks have."""

from __future__ import annotations

from typing import Any

from taomagic.spec.parse import SpecFile
from taomagic.spec.settings import CostScalingSettings
from taomagic.spec.ssd_pb2 import CostScalingConfig
from taomagic.spec.validate import as_written, broken


def learning_rates(spec: SpecFile[Any], field: str, schedule: Any) -> tuple[float, float]:
    """Return the smallest and the largest learning rate of a schedule.

    Parameters
    ----------
    spec
        The file.
    field
        Full name of the schedule in it.
    schedule
        The message.

    Raises
    ------
    SpecProblem
        The smallest is the larger one.
    """
    low, high = as_written(schedule.min_learning_rate), as_written(schedule.max_learning_rate)
    if low > high:
        raise broken(spec, f"{field}.min_learning_rate", low, f"<= max_learning_rate ({high:g})")
    return low, high


def soft_start_and_annealing(spec: SpecFile[Any], field: str, schedule: Any) -> tuple[float, float]:
    """Return where in a training the rise of the learning rate ends, and where its fall begins.

    Raises
    ------
    SpecProblem
        The fall begins first.
    """
    soft_start, annealing = as_written(schedule.soft_start), as_written(schedule.annealing)
    if not soft_start < annealing:
        hint = (
            "Both are fractions of the training: the rise ends at soft_start, the fall begins at annealing."
        )
        raise broken(spec, f"{field}.soft_start", soft_start, f"< annealing ({annealing:g})", hint=hint)
    return soft_start, annealing


def cost_scaling(config: CostScalingConfig) -> CostScalingSettings:
    """Return the settings of ``cost_scaling``; unset ones have the values of NVIDIA's sample specs."""
    return CostScalingSettings(
        initial_exponent=config.initial_exponent if config.HasField("initial_exponent") else 20.0,
        increment=config.increment if config.HasField("increment") else 0.005,
        decrement=config.decrement if config.HasField("decrement") else 1.0,
    )

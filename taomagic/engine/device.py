"""Where the network runs, and what that means for precision and memory layout: the one place that decides."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from taomagic.engine.training.distributed import local_rank
from taomagic.errors import UsageProblem
from taomagic.spec.settings import CostScalingSettings

logger = logging.getLogger(__name__)

#: Compute capability of Ampere.
_FIRST_WITH_BFLOAT16 = (8, 0)
#: Words in /proc/cpuinfo of processors that multiply bfloat16; others imitate it, 50 × slower than float32.
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
#: Of a loss scale, a float32.
_LARGEST_EXPONENT = 127.0
#: Below 1, which PyTorch doesn't take.
_LARGEST_BACKOFF = math.nextafter(1.0, 0.0)
#: Good steps before the loss scale grows, where it never shall; PyTorch counts them in 32 bits.
_NEVER = 2**31 - 1
#: "1" asks for results that are the same to the last bit each time, where a GPU would else vary.
DETERMINISTIC_VARIABLE = "TAOMAGIC_DETERMINISTIC"


@dataclass(frozen=True)
class Device:
    """A device and its habits.

    Attributes
    ----------
    torch_device
        Where tensors live.
    precision
        Type in which the forward pass computes where that is safe (``--use_amp``); ``None``: float32 throughout.
    """

    torch_device: torch.device
    precision: torch.dtype | None = None

    @property
    def is_cuda(self) -> bool:
        """Whether this is a GPU."""
        return self.torch_device.type == "cuda"

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of a forward pass."""
        if self.precision is None:
            return contextlib.nullcontext()
        return torch.autocast(self.torch_device.type, dtype=self.precision)

    def loss_scaler(self, settings: CostScalingSettings | None = None) -> torch.amp.GradScaler:
        """Return what keeps small gradients of float16 from vanishing; it does nothing in other precisions.

        Parameters
        ----------
        settings
            ``cost_scaling``: the factor is 2 to an exponent that each good step raises by ``increment`` and each step
            whose gradients overflow lowers by ``decrement``. ``None``: PyTorch's rule, which doubles the factor
            after 2,000 good steps and halves it after a bad one.
        """
        kind, enabled = self.torch_device.type, self.precision is torch.float16
        if settings is None:
            return torch.amp.GradScaler(kind, enabled=enabled)
        growth = 2.0 ** min(settings.increment, _LARGEST_EXPONENT)
        grows = (
            growth > 1.0
        )  # PyTorch takes no other factor; without an increment, the time for it never comes
        return torch.amp.GradScaler(
            kind,
            init_scale=2.0**settings.initial_exponent,
            growth_factor=growth if grows else 2.0,
            backoff_factor=min(2.0**-settings.decrement, _LARGEST_BACKOFF),
            growth_interval=1 if grows else _NEVER,
            enabled=enabled,
        )

    def place(self, model: nn.Module) -> nn.Module:
        """Move a model here, in the memory layout that is fastest: channels last on both kinds of device."""
        return model.to(self.torch_device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def describe(self, processes: int = 1) -> str:
        """Return one line for the log; ``processes`` train together, each on a device like this."""
        many = f"{processes} processes, each on " if processes > 1 else ""
        mixed = f", mixed precision ({str(self.precision).removeprefix('torch.')})" if self.precision else ""
        if self.is_cuda:
            return f"{many}{torch.cuda.get_device_name(self.torch_device)} ({self.torch_device}){mixed}"
        threads = torch.get_num_threads()
        return f"{many}CPU, {threads} thread{'s' if threads != 1 else ''}{mixed}"


def choose_device(
    gpu_index: Sequence[int] | None = None,
    *,
    amp: bool = False,
    asked_by: str = "--use_amp",
    cost_scaling: CostScalingSettings | None = None,
) -> Device:
    """Take the GPU that was asked for, or the CPU where there is none.

    Parameters
    ----------
    gpu_index
        ``--gpu_index``; the one of this process counts. On a machine without GPUs it has no meaning: NVIDIA's
        notebooks always pass 0.
    amp
        Whether mixed precision is asked for.
    asked_by
        What asks for it, for the log: a flag, or a field of the spec.
    cost_scaling
        Asks for float16, whose gradients need it, where the GPU could do bfloat16 as well.

    Raises
    ------
    UsageProblem
        If the machine has GPUs, but not that one.
    """
    if not has_cuda():
        return Device(torch.device("cpu"), _cpu_precision(asked_by) if amp else None)
    rank = local_rank()
    index = gpu_index[rank % len(gpu_index)] if gpu_index else rank
    if index >= torch.cuda.device_count():
        raise UsageProblem(
            f"there is no GPU {index}; this machine has {torch.cuda.device_count()}",
            where="--gpu_index" if gpu_index else "--gpus",
            hint=f"Use a number from 0 to {torch.cuda.device_count() - 1}."
            if gpu_index
            else f"Use at most {torch.cuda.device_count()}.",
        )
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    if not amp:
        return Device(device)
    # bfloat16 has float32's range. float16 hasn't: its gradients vanish without a loss scale.
    able = torch.cuda.get_device_capability(device) >= _FIRST_WITH_BFLOAT16
    return Device(device, torch.bfloat16 if able and cost_scaling is None else torch.float16)


def has_cuda() -> bool:
    """Whether a GPU is used: there is one, and ``TAOMAGIC_DEVICE`` isn't ``cpu``."""
    return torch.cuda.is_available() and os.environ.get("TAOMAGIC_DEVICE") != "cpu"


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself (AVX512_BF16 or AMX)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:  # not Linux
        return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    return any(not _BFLOAT16_FLAGS.isdisjoint(line.split()) for line in text.splitlines()[:64])


def _cpu_precision(asked_by: str) -> torch.dtype | None:
    if cpu_has_bfloat16():
        return torch.bfloat16
    logger.warning(
        "%s: neither a GPU nor a CPU with bfloat16 (AVX512_BF16, AMX) is here; training in float32.", asked_by
    )
    return None


def prefer(*, deterministic: bool | None = None) -> None:
    """Choose between speed and the same result to the last bit, before anything is computed.

    Parameters
    ----------
    deterministic
        By default as ``TAOMAGIC_DETERMINISTIC`` says. On a CPU the result only depends on the number of threads, but an
        operation without a deterministic form is refused there as well.
    """
    if deterministic is None:
        deterministic = os.environ.get(DETERMINISTIC_VARIABLE, "") not in {"", "0"}
    if deterministic:
        # cuBLAS reads it when it is used for the first time, and refuses to be deterministic without.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        logger.info("%s: every operation is deterministic.", DETERMINISTIC_VARIABLE)
    # As use_deterministic_algorithms, which sets Inductor's as well, and takes seconds to load that.
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    torch.backends.cudnn.deterministic = deterministic
    # All batches of a training have one size, so cuDNN's search for the fastest algorithm soon pays.
    torch.backends.cudnn.benchmark = not deterministic

"""Where the network runs, and what that means for precision and memory layout: the one place that decides."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn

from taomagic.errors import UsageProblem

logger = logging.getLogger(__name__)

#: Compute capability of Ampere.
_FIRST_WITH_BFLOAT16 = (8, 0)


@dataclass(frozen=True)
class Device:
    """A device and its habits.

    Attributes
    ----------
    torch_device
        Where tensors live.
    amp
        Whether the forward pass runs in bfloat16 (CUDA only: without AVX-512 bf16 a CPU gets 50 × slower).
    """

    torch_device: torch.device
    amp: bool = False

    @property
    def is_cuda(self) -> bool:
        """Whether this is a GPU."""
        return self.torch_device.type == "cuda"

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of a forward pass."""
        if not self.amp:
            return contextlib.nullcontext()
        return torch.autocast("cuda", dtype=torch.bfloat16)

    def place(self, model: nn.Module) -> nn.Module:
        """Move a model here, in the memory layout that is fastest: channels last on both kinds of device."""
        return model.to(self.torch_device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def describe(self) -> str:
        """Return one line for the log."""
        if self.is_cuda:
            name = torch.cuda.get_device_name(self.torch_device)
            return f"{name} ({self.torch_device}){', mixed precision' if self.amp else ''}"
        return f"CPU, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() != 1 else ''}"


def choose_device(gpu_index: Sequence[int] | None = None, *, amp: bool = False) -> Device:
    """Take the GPU that was asked for, or the CPU where there is none.

    Parameters
    ----------
    gpu_index
        ``--gpu_index``; the first one counts. On a machine without GPUs it has no meaning: NVIDIA's notebooks always
        pass 0.
    amp
        ``--use_amp``.

    Raises
    ------
    UsageProblem
        If the machine has GPUs, but not that one.
    """
    if torch.cuda.is_available() and os.environ.get("TAOMAGIC_DEVICE") != "cpu":
        index = gpu_index[0] if gpu_index else 0
        if index >= torch.cuda.device_count():
            raise UsageProblem(
                f"there is no GPU {index}; this machine has {torch.cuda.device_count()}",
                where="--gpu_index",
                hint=f"Use a number from 0 to {torch.cuda.device_count() - 1}.",
            )
        device = torch.device("cuda", index)
        # bfloat16 has float32's range. float16 hasn't: its gradients vanish without a loss scale.
        able = not amp or torch.cuda.get_device_capability(device) >= _FIRST_WITH_BFLOAT16
        if not able:
            logger.warning(
                "--use_amp: this GPU is older than Ampere and has no bfloat16; training in float32."
            )
        return Device(device, amp=amp and able)
    return Device(torch.device("cpu"))

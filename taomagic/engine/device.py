"""Where the network runs, and what that means for precision and memory layout: the one place that decides."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn

from taomagic.errors import UsageProblem


@dataclass(frozen=True)
class Device:
    """A device and its habits.

    Attributes
    ----------
    torch_device
        Where tensors live.
    amp
        Whether the forward pass runs in half precision (CUDA only: without AVX-512 bf16 a CPU gets 50 × slower).
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
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.autocast("cuda", dtype=dtype)

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
        return Device(torch.device("cuda", index), amp=amp)
    return Device(torch.device("cpu"))

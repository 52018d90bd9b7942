"""Several processes that train one network together: who one is, and what they tell each other.

Everything here also works in a single process, where it costs nothing: the world then has one rank.
"""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from taomagic.engine.training import mailbox
from taomagic.engine.training.members import is_member

T = TypeVar("T")

#: How long a process waits for the others. The longest thing that one does alone is to read and decode its data.
_PATIENCE = timedelta(minutes=30)
#: Where small tensors are exchanged, if not through the process group.
_mailbox: mailbox.Mailbox | None = None


@dataclass(frozen=True)
class World:
    """The place of a process among those that train together.

    Attributes
    ----------
    rank
        Its number, from 0.
    size
        How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files, logs and progress."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1


def world() -> World:
    """Return this process' place; rank 0 of 1 where nobody else takes part."""
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size())
    return World()


def local_rank() -> int:
    """Return this process' number on its machine, which decides about its GPU; 0 outside a distributed run."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def join(device: torch.device) -> World:
    """Meet the other processes, where there are any; NCCL connects GPUs, Gloo connects CPUs.

    Parameters
    ----------
    device
        Where this process trains.
    """
    if is_member() and not dist.is_initialized():
        cuda = device.type == "cuda"
        dist.init_process_group(
            "nccl" if cuda else "gloo", timeout=_PATIENCE, device_id=device if cuda else None
        )
        if not cuda:
            _open_mailbox()
    return world()


def _open_mailbox() -> None:
    """Let processes on one machine exchange small tensors through shared memory."""
    global _mailbox  # noqa: PLW0603  # like the process group, one for each process
    here = world()
    if not all(gathered(mailbox.is_possible())):
        return
    path = of_main(mailbox.create(here.size) if here.is_main else "")
    _mailbox = mailbox.Mailbox(path, here.rank, here.size)
    barrier()
    if here.is_main:
        Path(path).unlink()


def _fits_mailbox(values: Tensor) -> bool:
    return (
        _mailbox is not None
        and values.device.type == "cpu"
        and values.dtype == torch.float32
        and values.numel() <= mailbox.CAPACITY
    )


def connected(model: nn.Module, device: torch.device) -> nn.Module:
    """Return what a step has to call so that the gradients of all processes come together; alone, the network itself.

    The mean of the gradients goes back to each process. Buffers are not sent around: the statistics of batch
    normalisation are the same everywhere already (:mod:`taomagic.engine.training.batch_norm`).
    """
    if world().is_alone:
        return model
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    keep_buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    settings: dict[str, Any] = {keep_buffers: False, "gradient_as_bucket_view": True}
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None, **settings)


def leave() -> None:
    """Part from the other processes."""
    global _mailbox  # noqa: PLW0603
    _mailbox = None
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of a tensor of all ranks; it may be computed in place."""
    if _mailbox is not None and _fits_mailbox(values):
        return _mailbox.exchange(values).sum(0)
    if not world().is_alone:
        dist.all_reduce(values)
    return values


def max_over_ranks(values: Tensor) -> Tensor:
    """Return the element-wise maximum of a tensor of all ranks, computed in place."""
    if not world().is_alone:
        dist.all_reduce(values, dist.ReduceOp.MAX)
    return values


def stacked(values: Tensor) -> Tensor:
    """Return the tensors [...] of all ranks, which have one shape, as [ranks, ...]."""
    here = world()
    if here.is_alone:
        return values[None]
    if _mailbox is not None and _fits_mailbox(values):
        return _mailbox.exchange(values)
    parts = [torch.empty_like(values) for _ in range(here.size)]
    dist.all_gather(parts, values.contiguous())
    return torch.stack(parts)


def gathered(value: T) -> list[T]:
    """Return the values of all ranks, in the order of the ranks; plain Python data of any size."""
    here = world()
    if here.is_alone:
        return [value]
    values: list[Any] = [None] * here.size
    dist.all_gather_object(values, value)
    return values


def of_main(value: T) -> T:
    """Return the value that the main process has."""
    if world().is_alone:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def barrier() -> None:
    """Wait until every process has come here."""
    if not world().is_alone:
        # Not dist.barrier(): with NCCL that picks a GPU by guess.
        gathered(None)

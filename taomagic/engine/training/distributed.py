"""Several processes that train one network together: who one is, and what they tell each other.

Everything here also works in a single process, where it costs nothing: the world then has one rank.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import zip_longest
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from taomagic.engine.training.members import is_member

T = TypeVar("T")

#: How long a process waits for the others. The longest thing that one does alone is to read and decode its data.
_PATIENCE = timedelta(minutes=30)


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
    return world()


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
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of a tensor of all ranks, computed in place."""
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


def gathered_in_turn(mine: Sequence[T]) -> list[T]:
    """Return what all ranks have of a list that was dealt out in turn, in the order of the whole list."""
    dealt = [[(one,) for one in some] for some in gathered(list(mine))]
    return [one[0] for turn in zip_longest(*dealt) for one in turn if one is not None]


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

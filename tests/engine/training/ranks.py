"""Run a function of a test in several processes that are connected with each other."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def in_ranks(count: int, function: Callable[..., Any], folder: Path, *args: Any) -> list[Any]:
    """Call ``function(rank, *args)`` in each process, and return what each one returned (tensors and plain data)."""
    context = mp.get_context("spawn")
    processes = [
        context.Process(target=_run, args=(rank, count, function, str(folder), args)) for rank in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(count)]


def _run(rank: int, count: int, function: Callable[..., Any], folder: str, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
    torch.save(function(rank, *args), f"{folder}/rank{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()

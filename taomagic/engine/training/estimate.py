"""How long a training will take: a step is timed before the first one."""

from __future__ import annotations

import copy
import time
from dataclasses import replace

import torch
from torch import nn

from taomagic.engine.data.loading import Batch
from taomagic.engine.device import Device
from taomagic.engine.training.network import Network
from taomagic.engine.training.step import forward

#: A first step that takes longer than this isn't dominated by what only a first step does.
_LONG_STEP_S = 1.0


def step_seconds(network: Network, model: nn.Module, device: Device, batch: Batch) -> float:
    """Time one training step of a copy of the network, so that neither weights nor statistics change.

    Parameters
    ----------
    network, model, device
        What is trained, and where.
    batch
        Any batch of the training; of several processes, this one's share.

    Returns
    -------
    float
        Seconds; 0 where the share has no image.
    """
    # The copy doesn't share batch normalisation with other processes: to it, the share is the whole batch.
    batch = replace(batch, global_size=len(batch))
    if not len(batch):
        return 0.0
    twin = copy.deepcopy(model)
    network.to_training_mode(twin)
    objective = network.objective(twin, alone=True)
    twins = network.needs_twins(twin)
    seconds = 0.0
    for _ in range(2):  # the first step chooses algorithms and allocates; the second counts
        start = time.perf_counter()
        forward(twin, objective, device, batch, twins=twins).total.backward()
        if device.is_cuda:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        if seconds > _LONG_STEP_S:
            break
    return seconds

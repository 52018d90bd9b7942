"""One training step: forward pass, loss, backward pass, regulariser, optimiser."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from taomagic.engine.data.loading import Batch
from taomagic.engine.device import Device
from taomagic.engine.training.average import WeightAverage
from taomagic.engine.training.distributed import sum_over_ranks, world
from taomagic.engine.training.network import Loss, Objective
from taomagic.engine.training.regularizer import Regularizer


def forward(
    model: nn.Module, objective: Objective, device: Device, batch: Batch, *, twins: bool = True
) -> Loss:
    """Return the loss of a batch; ``twins``: whether an image can't be alone (:meth:`Network.needs_twins`)."""
    images = batch.images.to(device.torch_device, non_blocking=True)
    if twins and batch.global_size == 1:
        # Batch normalisation can't normalise a single value (a 1×1 map of one image); twins give the same loss.
        images = images.repeat(2, 1, 1, 1)
    with device.autocast():
        outputs = model(images.contiguous(memory_format=torch.channels_last))
    count = len(batch)
    return objective(*(output[:count] for output in outputs), batch=batch)


class Step:
    """Everything that a step changes, and how.

    Parameters
    ----------
    model
        In training mode; called, not looked into. Where several processes train, it brings their gradients together.
    objective
        What is minimised.
    device
        Where, and in which precision.
    optimizer, regularizer
        As built from the spec.
    scaler
        Keeps small gradients of float16 from vanishing; does nothing where it isn't enabled.
    average
        The moving average of the weights, where the spec asks for one.
    twins
        Whether an image can't be alone in a batch: see :meth:`Network.needs_twins`.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        device: Device,
        optimizer: torch.optim.Optimizer,
        regularizer: Regularizer,
        scaler: torch.amp.GradScaler,
        average: WeightAverage | None = None,
        *,
        twins: bool = True,
    ) -> None:
        self.model = model
        self.objective = objective
        self.device = device
        self.optimizer = optimizer
        self.regularizer = regularizer
        self.scaler = scaler
        self.average = average
        self._twins = twins

    def forward(self, batch: Batch) -> tuple[Loss, list[str], Tensor]:
        """Compute the loss of a batch.

        Returns
        -------
        tuple
            The loss; names of the values in the tensor behind them: the loss with the penalty, its parts, the penalty.
            The values are those of all processes together, and nothing waits for a GPU to have computed them.
        """
        loss = forward(self.model, self.objective, self.device, batch, twins=self._twins)
        parts = {name: value.detach() for name, value in loss.named().items()}
        shared = sum_over_ranks(torch.stack([loss.total.detach(), *parts.values()]))
        penalty = self.regularizer.penalty()
        if not isinstance(penalty, Tensor):
            penalty = shared.new_full((), penalty)
        values = torch.cat([shared[:1] + penalty, shared[1:], penalty[None]])
        return loss, ["loss", *parts, "penalty"], values

    def update(self, loss: Loss) -> None:
        """Change the weights by the gradients of a loss."""
        self.optimizer.zero_grad(set_to_none=True)
        # The gradients of the processes are averaged, but each loss is a share: the whole is their sum.
        total = loss.total if world().is_alone else loss.total * world().size
        if not self.scaler.is_enabled():
            total.backward()
            self.regularizer.add_gradients()
            self.optimizer.step()
        else:
            self.scaler.scale(total).backward()
            self.scaler.unscale_(self.optimizer)
            self.regularizer.add_gradients()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        if self.average is not None:
            self.average.update()

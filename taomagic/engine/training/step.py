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

#: Steps behind each other whose values may be too large for float16; more aren't chance.
MOST_OVERFLOWS = 20


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
        In training mode. Where several processes train, it brings their gradients together.
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
        #: Steps without a finite loss since the last one with.
        self.overflows = 0
        # What an overflow would spoil for good: GradScaler keeps it from the weights only.
        self._statistics = (
            [buffer for buffer in model.buffers() if buffer.is_floating_point()]
            if scaler.is_enabled()
            else []
        )
        self._before: list[Tensor] = []
        self._is_finite = torch.ones((), dtype=torch.bool)

    @torch.no_grad()
    def _restore_statistics(self) -> None:
        """Undo what a forward pass that overflowed did to the statistics; without asking a GPU whether it did."""
        for buffer, old in zip(self._statistics, self._before, strict=True):
            buffer.copy_(torch.where(self._is_finite, buffer, old))

    def may_overflow(self) -> bool:
        """Count a loss that isn't finite; return whether it may be one batch's that is too much for float16."""
        self.overflows += 1
        return self.scaler.is_enabled() and self.overflows < MOST_OVERFLOWS

    def forward(self, batch: Batch) -> tuple[Loss, list[str], Tensor]:
        """Compute the loss of a batch.

        Returns
        -------
        tuple
            The loss; names of the values in the tensor behind them: the loss with the penalty, its parts, the penalty.
            The values are those of all processes together, and nothing waits for a GPU to have computed them.
        """
        self._before = [buffer.clone() for buffer in self._statistics]
        loss = forward(self.model, self.objective, self.device, batch, twins=self._twins)
        parts = {name: value.detach() for name, value in loss.named().items()}
        shared = sum_over_ranks(torch.stack([loss.total.detach(), *parts.values()]))
        penalty = self.regularizer.penalty()
        if not isinstance(penalty, Tensor):
            penalty = shared.new_full((), penalty)
        values = torch.cat([shared[:1] + penalty, shared[1:], penalty[None]])
        self._is_finite = torch.isfinite(values[0])
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
            self._restore_statistics()
        if self.average is not None:
            self.average.update()

"""SOLVER.ACCUMULATE: a batch in parts, one after the other, where memory is short of the whole."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

import torch
from detectron2.engine import AMPTrainer, SimpleTrainer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import ConfigError


class AccumulatingTrainer(SimpleTrainer):
    """One step: the mean of the gradients of `parts` equal parts of a batch.

    The images, their augmentation and the learning rate are those of the whole batch, and clipping
    and AMP see the sum. Its gradient is the whole batch's as far as the losses divide by the same
    number in every part:

    - RPN's by images: equal, where anchors are not drawn at random or padded differently;
    - the box head's by sampled regions, the mask head's by objects: equal where each part has as
      many, which a full BATCH_SIZE_PER_IMAGE gives the box head; else each part weighs the same.

    BatchNorm sees a part at a time; so does a method that counts, or draws classes, by the batch.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[list[dict]],
        optimizer: torch.optim.Optimizer,
        parts: int,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self._parts = parts

    def run_step(self) -> None:
        assert self.model.training, "the model was changed to eval mode"
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        check_parts(self._parts, len(data))
        self.optimizer.zero_grad()
        size, means = len(data) // self._parts, {}
        for first in range(0, len(data), size):
            with self._synchronized(first + size == len(data)):
                with self._precision():
                    losses = self.model(data[first : first + size])
                losses = {name: loss / self._parts for name, loss in losses.items()}
                self._backward(sum(losses.values()))
            for name, loss in losses.items():
                means[name] = means.get(name, 0.0) + loss.detach()
        self.after_backward()
        self._write_metrics(means, data_time)
        self._update()

    def _synchronized(self, last: bool) -> contextlib.AbstractContextManager:
        """Ranks exchange gradients once, after the last part."""
        several = isinstance(self.model, DistributedDataParallel)
        return self.model.no_sync() if several and not last else contextlib.nullcontext()

    def _precision(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()

    def _backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def _update(self) -> None:
        self.optimizer.step()


class AccumulatingAMPTrainer(AccumulatingTrainer, AMPTrainer):
    """The same in mixed precision, as `AMPTrainer` has it."""

    def _precision(self) -> contextlib.AbstractContextManager:
        device = next(self.model.parameters()).device.type
        return torch.autocast(device, dtype=getattr(self, "precision", torch.float16))

    def _backward(self, loss: torch.Tensor) -> None:
        self.grad_scaler.scale(loss).backward()

    def _update(self) -> None:
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()


def check_parts(parts: int, images: int) -> None:
    """Raise `ConfigError` unless a process's batch of so many images has that many equal parts."""
    if not isinstance(parts, int) or parts < 1 or images % parts:
        raise ConfigError(
            f"SOLVER.ACCUMULATE (train.accumulate in a .py config) is {parts!r}, and a process has "
            f"{images} images of a batch; it has to divide them: IMS_PER_BATCH is the whole batch, "
            f"of all parts and processes"
        )

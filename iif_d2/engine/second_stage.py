"""Second stages: a method that learns (DisAlign) or observes (LogN) over a model that is frozen."""

from __future__ import annotations

import time

import torch
from detectron2.engine import HookBase, SimpleTrainer
from torch import Tensor, nn

from ..methods import LongTailMethod


def second_stage_methods(model: nn.Module) -> list[LongTailMethod]:
    """The methods in the model that stand on a trained model, one for each box predictor."""
    methods = [m for m in model.modules() if isinstance(m, LongTailMethod)]
    return [method for method in methods if method.second_stage]


def freeze_first_stage(model: nn.Module, methods: list[LongTailMethod]) -> bool:
    """Let only the methods' own parameters learn; whether they have any."""
    model.requires_grad_(False)
    for method in methods:
        method.requires_grad_(True)
    return any(parameter.requires_grad for parameter in model.parameters())


class FrozenNorms(HookBase):
    """Keeps a module's BatchNorm at its trained statistics, whatever sets it to train.

    A frozen model's; or a pretrained backbone's, whose scale and shift may learn all the same.
    """

    def __init__(self, model: nn.Module) -> None:
        self._norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]

    def before_step(self) -> None:
        for norm in self._norms:
            norm.eval()


class ObservingTrainer(SimpleTrainer):
    """A step shows the methods the logits of one batch's sampled RoIs; nothing is learned."""

    def __init__(self, model: nn.Module, data_loader, optimizer, methods: list) -> None:
        super().__init__(model, data_loader, optimizer)
        for method in methods:
            method.register_forward_hook(_observe)

    def run_step(self) -> None:
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with torch.no_grad():
            losses = self.model(data)
        self._write_metrics(losses, data_time)
        self.optimizer.step()  # without gradients it changes nothing; the scheduler waits for it


def _observe(method: LongTailMethod, args: tuple, logits: Tensor) -> None:
    if method.training:
        method.observe(logits[:, : method.num_logits])

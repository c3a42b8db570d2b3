"""Second stages over a frozen model: a method learns (DisAlign), its classifier (LOS), or neither.

LogN only observes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import torch
from detectron2.engine import SimpleTrainer
from torch import Tensor, nn

from ..methods import LongTailMethod
from ..modeling import LongTailPredictorMixin


def second_stage_methods(model: nn.Module) -> list[LongTailMethod]:
    """The methods in the model that stand on a trained model, one for each box predictor."""
    methods = [m for m in model.modules() if isinstance(m, LongTailMethod)]
    return [method for method in methods if method.second_stage]


def learns(model: nn.Module) -> bool:
    """Whether any parameter does; LogN's have none, and the rest of its model is frozen."""
    return any(parameter.requires_grad for parameter in model.parameters())


def optimizer_for(
    model: nn.Module, build: Callable[[], torch.optim.Optimizer]
) -> torch.optim.Optimizer:
    """What `build` gives, after all but what a second stage learns is frozen, in place.

    That is the method, and the classifier in front of it where it `retrains_classifier`.
    Where nothing learns it is an optimizer that does nothing, for the scheduler and checkpoints.
    """
    methods = second_stage_methods(model)
    if methods:
        model.requires_grad_(False)
        for method in methods:
            method.requires_grad_(True)
        for predictor in model.modules():
            if isinstance(predictor, LongTailPredictorMixin):
                method = predictor.method
                if method.second_stage and method.retrains_classifier:
                    predictor.cls_score.requires_grad_(True)
    return build() if learns(model) else torch.optim.SGD(model.parameters(), 0.0)


class ObservingTrainer(SimpleTrainer):
    """A step shows the methods the logits of one batch's sampled RoIs; nothing is learned."""

    def __init__(
        self, model: nn.Module, data_loader: Iterable, optimizer: torch.optim.Optimizer
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        for method in second_stage_methods(model):
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

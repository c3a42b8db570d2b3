"""MODEL_EMA: an exponential moving average of the weights, which is what is evaluated and saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.engine import HookBase
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..errors import CheckpointError, ConfigError


class WeightAverage(HookBase):
    """After each step, average <- d * average + (1 - d) * weights, with torch's own function.

    d is min(decay, (1 + t) / (10 + t)) after t steps, so that a short schedule forgets its start.
    Averaged are the parameters that learn and, with them, BatchNorm's running mean and variance,
    which go with the weights. All else is the model's own: frozen weights, integers, and what a
    method has counted.

    A checkpoint's `model` has the average, so that every reader of it gets what was evaluated; the
    weights that training goes on from are in the state of this hook.

    Args:
        model: not in DistributedDataParallel; all ranks average the same weights.
        decay: in [0, 1); 0.999 is the usual one, a window of a thousand steps.

    Raises:
        ConfigError: the decay is none.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            raise ConfigError(
                f"MODEL_EMA.DECAY (train.model_ema.decay in a .py config) is {decay!r}; it is in "
                f"[0, 1), such as 0.999"
            )
        self._decay = decay
        self._weights = dict(_averaged(model))
        self._average: dict[str, Tensor] | None = None
        self._raw: dict[str, Tensor] | None = None  # where the average is in the model
        self._steps = 0

    def before_train(self) -> None:
        if self._average is None:
            self._average = {name: weight.detach().clone() for name, weight in self._own().items()}

    def after_step(self) -> None:
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        if self._average:
            update = get_ema_multi_avg_fn(decay)
            update(list(self._average.values()), list(self._own().values()), self._steps)

    def average(self) -> dict[str, Tensor]:
        """The averaged tensors, by their names in the model's state."""
        return self._average or {}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the average; the same tensors, exchanged and not copied."""
        self._raw = self._own()
        try:
            for name, weight in self._weights.items():
                weight.data = self._average[name]
            yield
        finally:
            for name, weight in self._weights.items():
                weight.data = self._raw[name]
            self._raw = None

    def state_dict(self) -> dict[str, Any]:
        # SIGTERM may have this saved in the midst of an evaluation.
        return {"steps": self._steps, "weights": self._raw or self._own()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of a checkpoint whose `model` has been loaded."""
        if state["weights"].keys() != self._weights.keys():
            raise CheckpointError(
                "the checkpoint averages other weights than this run would; resume with the config "
                "it was trained with"
            )
        self._steps = state["steps"]
        self._average = {name: weight.clone() for name, weight in self._own().items()}
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(state["weights"][name])

    def _own(self) -> dict[str, Tensor]:
        return {name: weight.data for name, weight in self._weights.items()}


def _averaged(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.requires_grad:
            yield name, parameter
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            for name in ("running_mean", "running_var"):
                yield f"{path}.{name}" if path else name, getattr(module, name)

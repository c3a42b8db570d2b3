"""NaN and infinite numbers end training, with where they came from."""

from __future__ import annotations

import torch
from detectron2.engine import HookBase


class FiniteGradients(HookBase):
    """Raises before a gradient that is not finite reaches the weights.

    Not for AMP, whose gradient scaler meets overflow by leaving the step out.
    """

    def after_backward(self) -> None:
        sums = [p.grad.sum() for p in self.trainer.model.parameters() if p.grad is not None]
        if sums and not torch.stack(sums).isfinite().all():
            raise FloatingPointError(f"a gradient is NaN or infinite: {self._first()}")

    def _first(self) -> str:
        return next(
            name
            for name, parameter in self.trainer.model.named_parameters()
            if parameter.grad is not None and not parameter.grad.sum().isfinite()
        )

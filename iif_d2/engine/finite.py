"""NaN and infinite gradients end training before they reach the weights."""

from __future__ import annotations

import torch
from torch import nn


def refuse_bad_gradients(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Have the optimizer raise `FloatingPointError` where a gradient is not finite.

    Under AMP its gradient scaler comes first and leaves steps that overflow out.
    """

    def check(*_) -> None:
        sums = {
            name: parameter.grad.sum()
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }
        if sums and not torch.stack(list(sums.values())).isfinite().all():
            first = next(name for name, value in sums.items() if not value.isfinite())
            raise FloatingPointError(f"a gradient is NaN or infinite: {first}")

    optimizer.register_step_pre_hook(check)

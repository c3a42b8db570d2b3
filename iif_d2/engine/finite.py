"""NaN and infinite gradients end training before they reach the weights."""

from __future__ import annotations

import torch
from torch import nn

# AMP's scale starts at 65,536 and is halved by each step that overflows: 36 of them without a pause
# mean that no scale helps. Where training is well it stays above 1.
LOWEST_SCALE = 1e-6


def refuse_bad_gradients(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Have the optimizer raise `FloatingPointError` where a gradient is not finite.

    Under AMP its gradient scaler comes first and leaves steps that overflow out: not so with a
    fused optimizer, which would do that itself after this.
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


def refuse_endless_overflow(scaler: torch.amp.GradScaler) -> None:
    """Raise `FloatingPointError` where AMP leaves out one step after the other.

    The weights would be as they are for ever, with nothing said.
    """
    scale = scaler.get_scale()
    if scaler.is_enabled() and scale < LOWEST_SCALE:
        raise FloatingPointError(
            f"gradients are NaN or infinite in one step after the other, until AMP scales by "
            f"{scale:.0e}"
        )

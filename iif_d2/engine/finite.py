"""NaN and infinite gradients end training before they reach the weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.checkpoint import Checkpointer
from detectron2.utils import comm
from torch import nn

from ..errors import CheckpointError, DivergedError

# AMP's scale starts at 65,536 and is halved by each step that overflows: 36 of them without a pause
# mean that no scale helps. Where training is well it stays above 1.
LOWEST_SCALE = 1e-6


def refuse_bad_gradients(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Have the optimizer raise `FloatingPointError` where a gradient is not finite.

    Under AMP its gradient scaler comes first and leaves steps that overflow out; a fused optimizer
    does that itself, and only after this.
    """

    def check(stepping: torch.optim.Optimizer, *_) -> None:
        if getattr(stepping, "found_inf", None) is not None:
            return
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


def diverged(
    error: FloatingPointError, iteration: int, images: Sequence[str], checkpointer: Checkpointer
) -> DivergedError:
    """The error for a step that came to NaN or infinite numbers with these images."""
    try:
        last = checkpointer.has_checkpoint() and checkpointer.get_checkpoint_file()
    except CheckpointError:
        last = "none that is whole"
    return DivergedError(
        f"training has diverged at iteration {iteration}: {' '.join(str(error).split())}. "
        f"Images of rank {comm.get_rank()}: {', '.join(images)}. "
        f"Last good checkpoint: {last or 'none yet'}. Look at these images and their "
        f"annotations, or lower the learning rate, and go on with --resume"
    )

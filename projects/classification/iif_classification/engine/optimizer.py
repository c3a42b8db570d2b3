"""SGD and its learning rate over steps, from torch, by the SOLVER node."""

from __future__ import annotations

import torch
from fvcore.common.config import CfgNode
from torch import nn
from torch.optim import lr_scheduler

from iif_d2.errors import ConfigError, UnknownNameError


def build_optimizer(solver: CfgNode, model: nn.Module) -> torch.optim.SGD:
    """SGD over the parameters that train.

    Raises:
        ConfigError: nothing trains.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ConfigError("MODEL.FREEZE leaves nothing to train")
    return torch.optim.SGD(
        parameters,
        lr=solver.LR,
        momentum=solver.MOMENTUM,
        weight_decay=solver.WEIGHT_DECAY,
        nesterov=solver.NESTEROV,
    )


def build_scheduler(
    solver: CfgNode, optimizer: torch.optim.Optimizer, steps_per_epoch: int
) -> lr_scheduler.LRScheduler:
    """The schedule, to be stepped after every step; a linear warm-up multiplies its start.

    Raises:
        UnknownNameError: no such schedule.
        ConfigError: STEPS that are not parts of the whole, or a warm-up longer than the training.
    """
    total = solver.EPOCHS * steps_per_epoch
    warmup = round(solver.WARMUP_EPOCHS * steps_per_epoch)
    if not 0 <= warmup < total:
        raise ConfigError(
            f"SOLVER.WARMUP_EPOCHS is {solver.WARMUP_EPOCHS}, SOLVER.EPOCHS {solver.EPOCHS}"
        )
    if solver.SCHEDULE == "step":
        if not all(0 < part < 1 for part in solver.STEPS):
            raise ConfigError(
                f"SOLVER.STEPS are parts of EPOCHS between 0 and 1, not {solver.STEPS}"
            )
        milestones = [round(part * solver.EPOCHS) * steps_per_epoch for part in solver.STEPS]
        main = lr_scheduler.MultiStepLR(optimizer, milestones, solver.GAMMA)
    elif solver.SCHEDULE == "cosine":
        main = lr_scheduler.CosineAnnealingLR(optimizer, total)
    elif solver.SCHEDULE == "constant":
        main = lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0)
    else:
        raise UnknownNameError.of(
            "SOLVER.SCHEDULE", solver.SCHEDULE, ("step", "cosine", "constant")
        )
    if not warmup:
        return main
    start = lr_scheduler.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return lr_scheduler.ChainedScheduler([start, main])

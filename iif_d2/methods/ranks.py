"""Adding up what the processes of a distributed training have gathered."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of this tensor over all ranks, in place; itself where there is one process.

    Every rank must come here equally often, also in a step in which it has no rows.
    """
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def confusions(classes: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """What the rows of each class are taken for, over all ranks; see `sum_over_ranks`.

    Args:
        classes: logits (R, C) of foreground rows, without the background's.
        label: int64 (R,) in [0, C).

    Returns:
        float64 (C, C), for each class the sum of softmax over its rows, and (C, 1), their number.
    """
    own = F.one_hot(label, classes.shape[1]).double()
    sums = own.T @ classes.softmax(dim=1).double()
    both = sum_over_ranks(torch.cat([sums, own.sum(dim=0)[:, None]], dim=1))
    return both[:, :-1], both[:, -1:]

"""What several ranks have to agree on before they evaluate."""

from __future__ import annotations

import torch
from detectron2.utils import comm
from torch import nn


def share_statistics(model: nn.Module) -> None:
    """Give every rank the statistics of batch norm of rank 0, whose model is the one saved.

    Each rank gathers its own in training; evaluated with them, AP would follow the ranks. All
    ranks have to call it.
    """
    if comm.get_world_size() == 1:
        return
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for buffer in module.buffers(recurse=False):
                torch.distributed.broadcast(buffer, 0)

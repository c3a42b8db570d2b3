"""Focal loss over a softmax: rows that are already right weigh less."""

from __future__ import annotations

import torch
from torch import Tensor

from ..frequency import FrequencySource
from .base import METHOD_REGISTRY, LongTailMethod, require_at_least


@METHOD_REGISTRY.register()
class Focal(LongTailMethod):
    """mean_i -(1 - q_i)^gamma ln q_i with q_i = softmax(z_i)_{y_i}, for classification.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, in the softmax form that the
    long-tailed classification benchmarks use, without alpha.

    Args:
        gamma: how little rows that are right weigh, >= 0; 2 in the paper, 0 is softmax.
    """

    supports_background = False
    uses_frequency = False

    def __init__(
        self, frequency: FrequencySource, background: bool = False, gamma: float = 2.0
    ) -> None:
        require_at_least(self, 0, gamma=gamma)
        self.gamma = gamma
        super().__init__(frequency, background)

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        log_q = logits.log_softmax(dim=1).gather(1, labels[:, None])
        # not below the smallest number: the gradient of 0^gamma is infinite for gamma < 1
        missed = (-log_q.expm1()).clamp(min=torch.finfo(logits.dtype).tiny)
        return -(missed**self.gamma * log_q).mean()

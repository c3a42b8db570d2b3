"""GOL: the Gumbel distribution in place of the logistic, over DropLoss's mask."""

from __future__ import annotations

import math

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from .base import LongTailMethod
from .drop_loss import DropLoss
from .registry import METHOD_REGISTRY

LOGIT_RANGE = (-4.0, 10.0)  # in training: beyond it p rounds to 0 or 1 in half precision
HIGHEST_LOSS = 20.0


@METHOD_REGISTRY.register()
class GOL(DropLoss):
    """sum_ij w_ij min(BCE(p_ij, y_ij), 20) / R with p = exp(-exp(-z)), z clamped to [-4, 10].

    w is DropLoss's on the foreground columns and 1 on the background's. Test:
    p(z_c) (1 - p(z_b)). Alexandridis et al., "Long-tailed Instance Segmentation using Gumbel
    Optimized Loss", ECCV 2022.

    The activation and the clamp of z are the release's. Unverified: the clamp of the loss, the
    background's own column (one released variant has C outputs and scores no background), the
    product at test, and the start at p = 0.001.
    """

    background_logit = True
    not_affine = "its scores are the Gumbel's exp(-exp(-z)), which no sigmoid gives"

    def _weight(self, target: Tensor, labels: Tensor) -> Tensor:
        weight = super()._weight(target[:, : self.num_classes], labels)
        return F.pad(weight, (0, 1), value=1.0) if self.background else weight

    def _affine(self) -> tuple[np.ndarray, np.ndarray]:
        return LongTailMethod._affine(self)  # without a background, too

    def _scores(self, logits: Tensor) -> Tensor:
        return (-(-logits).exp()).exp()

    def _entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        log_p = -(-logits.clamp(*LOGIT_RANGE)).exp()
        log_not_p = (-log_p.expm1()).log()
        entropy = -(target * log_p + (1 - target) * log_not_p)
        return entropy.clamp(max=HIGHEST_LOSS)

    def _inverse_link(self, probability: float) -> float:
        # The logistic's -6.9 would lie in the clamp, where nothing learns.
        return -math.log(-math.log(probability))

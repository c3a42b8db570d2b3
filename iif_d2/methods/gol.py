"""GOL: the Gumbel distribution in place of the logistic, over DropLoss's mask."""

from __future__ import annotations

import math

from torch import Tensor

from .base import METHOD_REGISTRY, Reads
from .drop_loss import DropLoss

LOGIT_RANGE = (-4.0, 10.0)  # in training: beyond it p rounds to 0 or 1 in half precision


@METHOD_REGISTRY.register()
class GOL(DropLoss):
    """sum_ij w_ij BCE(p_ij, y_ij) / R with p = exp(-exp(-z)), z clamped to [-4, 10] in training.

    w is DropLoss's. Test: p(z_c) without the clamp, and 0 for the background, which has no logit.
    Alexandridis et al., "Long-tailed Instance Segmentation using Gumbel Optimized Loss", ECCV 2022;
    the columns, the clamp and the start near p = 0.001 (a bias of -2) are its release's
    (kostas1515/GOL, mmdet/models/losses/droploss.py with use_classif gumbel, and its configs).
    """

    reads = Reads("Gumbel")
    not_affine = "its scores are the Gumbel's exp(-exp(-z)), which no sigmoid gives"

    def _scores(self, logits: Tensor) -> Tensor:
        return (-(-logits).exp()).exp()

    def _entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        log_p = -(-logits.clamp(*LOGIT_RANGE)).exp()
        log_not_p = (-log_p.expm1()).log()
        return -(target * log_p + (1 - target) * log_not_p)

    def _inverse_link(self, probability: float) -> float:
        # The logistic's -6.9 would lie in the clamp, where nothing learns.
        return -math.log(-math.log(probability))

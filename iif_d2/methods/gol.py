"""GOL: the Gumbel distribution in place of the logistic, over DropLoss's mask."""

from __future__ import annotations

from torch import Tensor

from ..frequency import FrequencySource
from .apa import APA
from .base import METHOD_REGISTRY, Reads

LOGIT_RANGE = (-4.0, 10.0)  # in training: beyond it p rounds to 0 or 1 in half precision


@METHOD_REGISTRY.register()
class GOL(APA):
    """sum_ij w_ij BCE(p_ij, y_ij) / R with p = exp(-exp(-z)), z clamped to [-4, 10] in training.

    APA's limit for lam -> 0. w is DropLoss's. Test: p(z_c) without the clamp, and 0 for the
    background, which has no logit. Alexandridis et al., "Long-tailed Instance Segmentation using
    Gumbel Optimized Loss", ECCV 2022; the columns, the clamp and the start near p = 0.001 (a bias
    of -2; the logistic's -6.9 would lie in the clamp, where nothing learns) are its release's
    (kostas1515/GOL, mmdet/models/losses/droploss.py with use_classif gumbel, and its configs).
    """

    not_affine = "its scores are the Gumbel's exp(-exp(-z)), which no sigmoid gives"

    def __init__(
        self, frequency: FrequencySource, background: bool = True, threshold: float = 1.1e-3
    ) -> None:
        super().__init__(frequency, background, threshold, lam=0.0, learnt=False)
        self.reads = Reads("Gumbel")

    def _entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        return super()._entropy(logits.clamp(*LOGIT_RANGE), target)

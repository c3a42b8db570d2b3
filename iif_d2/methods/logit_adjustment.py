"""Logit adjustment: the log prior as a per-class shift, in the loss or at test."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..frequency import ClassFrequency, FrequencySource
from .base import METHOD_REGISTRY, LongTailMethod, require_at_least
from .weights import seen_count


def log_prior(frequency: ClassFrequency) -> np.ndarray:
    """float64 (C,): ln pi_c with pi_c = n_c / sum n; a class never seen counts as seen once."""
    return np.log(seen_count(frequency)) - np.log(frequency.image_count.sum())


@METHOD_REGISTRY.register()
class LogitAdjustment(LongTailMethod):
    """CE(softmax(z + tau ln pi), y), test softmax(z); or, post-hoc, test softmax(z - tau ln pi).

    The background's logit is left as it is. Menon et al., "Long-Tail Learning via Logit
    Adjustment", ICLR 2021.

    Args:
        tau: the strength, >= 0; 0 is softmax, 1 the shift that is optimal for balanced accuracy.
        post_hoc: the shift at test only, over a model trained with Softmax.
        normalized: shift by ln pi_c as published; False: by ln n_c. They differ by a constant,
            which only matters where there is a background that is not shifted.
    """

    def __init__(
        self,
        frequency: FrequencySource,
        background: bool = True,
        tau: float = 1.0,
        post_hoc: bool = False,
        normalized: bool = True,
    ) -> None:
        require_at_least(self, 0, tau=tau)
        self.tau, self.post_hoc, self.normalized = tau, post_hoc, normalized
        super().__init__(frequency, background)

    def derive(self, frequency: ClassFrequency) -> dict[str, np.ndarray]:
        prior = log_prior(frequency) if self.normalized else np.log(seen_count(frequency))
        return {"shift": self._with_background(self.tau * prior, 0.0)}

    def _scale_and_shift(self) -> tuple[None, Tensor | None]:
        return None, -self.shift if self.post_hoc else None

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        shifted = logits if self.post_hoc else logits + self.shift.to(logits.dtype)
        return F.cross_entropy(shifted, labels)

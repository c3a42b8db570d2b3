"""Logit adjustment: the log prior as a per-class shift, in the loss or at test."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..frequency import ClassFrequency
from .base import DeferredFrequency, LongTailMethod
from .options import require_at_least
from .registry import METHOD_REGISTRY
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
        tau: the strength; 0 is softmax.
        post_hoc: the shift at test only, over a model trained with plain softmax; the loss is then
            softmax's.
        normalized: shift by ln pi_c as published; False: by ln n_c. They differ by a constant,
            which only matters where there is a background that is not shifted.
    """

    def __init__(
        self,
        frequency: ClassFrequency | DeferredFrequency,
        background: bool = True,
        tau: float = 1.0,
        post_hoc: bool = False,
        normalized: bool = True,
    ) -> None:
        super().__init__(len(frequency), background)
        require_at_least(self, 0, tau=tau)
        self.tau, self.post_hoc, self.normalized = tau, post_hoc, normalized
        self.set_frequency(frequency)

    def _derive(self, frequency: ClassFrequency) -> None:
        prior = log_prior(frequency) if self.normalized else np.log(seen_count(frequency))
        shift = self.tau * prior
        self._constant("shift", np.append(shift, 0.0) if self.background else shift)

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        shifted = logits if self.post_hoc else logits + self.shift.to(logits.dtype)
        return F.cross_entropy(shifted, labels)

    def _adjust(self, logits: Tensor) -> Tensor:
        return logits - self.shift.to(logits.dtype) if self.post_hoc else logits

    def _affine(self) -> tuple[np.ndarray, np.ndarray]:
        scale, shift = self._identity()
        return scale, -self.shift.cpu().numpy() if self.post_hoc else shift

"""NorCal: normalised calibration of a softmax-trained detector by the class counts."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError
from ..frequency import ClassFrequency
from .base import DeferredFrequency, LongTailMethod
from .options import require_at_least, require_one_of
from .registry import METHOD_REGISTRY
from .weights import seen_count

MODES = ("exps", "probs", "logits")
WEIGHTINGS = ("gamma", "cb")


@METHOD_REGISTRY.register()
class NorCal(LongTailMethod):
    """Test: p_c = a_c exp(z_c) / (exp(z_b) + sum_j a_j exp(z_j)) with a_c = n_c^-gamma.

    That is softmax(z + ln a) with the background untouched; the loss is softmax's. Pan et al., "On
    Model Calibration for Long-Tailed Object Detection and Instance Segmentation", NeurIPS 2021.

    Args:
        gamma: the strength, to be chosen on the training set; 0 is off, as released. The default is
            about what suits a softmax-trained R50 on LVIS (unverified).
        mode: what a_c multiplies: "exps", exp(z) as above; "probs", softmax(z), which is the same
            with `renorm`; "logits", z, then softmax.
        renorm: False leaves "probs" as products that no longer sum to 1.
        weighting: "gamma" as above; "cb", class-balanced: a_c = (1 - gamma) / (1 - gamma^n_c) with
            gamma below 1.
    """

    def __init__(
        self,
        frequency: ClassFrequency | DeferredFrequency,
        background: bool = True,
        gamma: float = 0.6,
        mode: str = "exps",
        renorm: bool = True,
        weighting: str = "gamma",
    ) -> None:
        super().__init__(len(frequency), background)
        require_at_least(self, 0, gamma=gamma)
        require_one_of(self, MODES, mode=mode)
        require_one_of(self, WEIGHTINGS, weighting=weighting)
        if weighting == "cb" and gamma >= 1:
            raise ConfigError(f"NorCal: gamma must be below 1 with weighting cb, not {gamma!r}")
        if mode != "probs" and not renorm:
            raise ConfigError(f"NorCal: mode {mode} has no form without renorm; use probs")
        self.gamma, self.mode, self.renorm, self.weighting = gamma, mode, renorm, weighting
        self.set_frequency(frequency)

    def _derive(self, frequency: ClassFrequency) -> None:
        count = seen_count(frequency)
        if self.weighting == "gamma":
            log_factor = -self.gamma * np.log(count)
        else:
            log_factor = np.log1p(-self.gamma) - np.log1p(-(self.gamma**count))
        self._constant("log_factor", np.append(log_factor, 0.0) if self.background else log_factor)

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        return F.cross_entropy(logits, labels)

    def _adjust(self, logits: Tensor) -> Tensor:
        if self.mode == "logits":
            return logits * self.log_factor.exp().to(logits.dtype)
        if not self.renorm:
            logits = logits.log_softmax(dim=1)
        return logits + self.log_factor.to(logits.dtype)

    def _affine(self) -> tuple[np.ndarray, np.ndarray]:
        log_factor = self.log_factor.cpu().numpy()
        scale, shift = self._identity()
        if self.mode == "logits":
            return np.exp(log_factor), shift
        if not self.renorm:
            raise ConfigError(
                "NorCal cannot be folded with renorm=False: its scores do not sum to 1, as a "
                "softmax's do"
            )
        return scale, log_factor

    def _probabilities(self, logits: Tensor) -> Tensor:
        adjusted = self._adjust(logits)
        return adjusted.softmax(dim=1) if self.renorm else adjusted.exp()

"""NorCal: normalised calibration of a softmax-trained detector by the class counts."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..errors import ConfigError
from ..frequency import ClassFrequency, FrequencySource
from .base import METHOD_REGISTRY, LongTailMethod, require_at_least, require_one_of
from .weights import seen_count

MODES = ("exps", "probs", "logits")
WEIGHTINGS = ("gamma", "cb")


@METHOD_REGISTRY.register()
class NorCal(LongTailMethod):
    """Test: p_c = a_c exp(z_c) / (exp(z_b) + sum_j a_j exp(z_j)) with a_c = n_c^-gamma.

    That is softmax(z + ln a) with the background untouched; the loss is softmax's. Pan et al., "On
    Model Calibration for Long-Tailed Object Detection and Instance Segmentation", NeurIPS 2021.

    Args:
        gamma: the strength, >= 0, to be chosen on the training set; 0 is off, as released, 1 is
            logit adjustment with tau 1. The default is about what suits a softmax-trained R50 on
            LVIS (unverified).
        mode: what a_c multiplies: "exps", exp(z) as above; "probs", softmax(z), which is the same
            with `renorm`; "logits", z, then softmax.
        renorm: False leaves "probs" as products that no longer sum to 1.
        weighting: "gamma" as above; "cb", class-balanced: a_c = (1 - gamma) / (1 - gamma^n_c) with
            gamma below 1.
    """

    def __init__(
        self,
        frequency: FrequencySource,
        background: bool = True,
        gamma: float = 0.6,
        mode: str = "exps",
        renorm: bool = True,
        weighting: str = "gamma",
    ) -> None:
        require_at_least(self, 0, gamma=gamma)
        require_one_of(self, MODES, mode=mode)
        require_one_of(self, WEIGHTINGS, weighting=weighting)
        if weighting == "cb" and gamma >= 1:
            raise ConfigError(f"NorCal: gamma must be below 1 with weighting cb, not {gamma!r}")
        if mode != "probs" and not renorm:
            raise ConfigError(f"NorCal: mode {mode} has no form without renorm; use probs")
        self.gamma, self.mode, self.renorm, self.weighting = gamma, mode, renorm, weighting
        if not renorm:
            self.not_affine = "with renorm=False its scores do not sum to 1, as a softmax's do"
        super().__init__(frequency, background)

    def derive(self, frequency: ClassFrequency) -> dict[str, np.ndarray]:
        count = seen_count(frequency)
        if self.weighting == "gamma":
            log_factor = -self.gamma * np.log(count)
        else:
            log_factor = np.log1p(-self.gamma) - np.log1p(-(self.gamma**count))
        return {"log_factor": self._with_background(log_factor, 0.0)}

    def _scale_and_shift(self) -> tuple[Tensor | None, Tensor | None]:
        if self.mode == "logits":
            return self.log_factor.exp(), None
        return None, self.log_factor

    def _adjust(self, logits: Tensor) -> Tensor:
        return super()._adjust(logits if self.renorm else logits.log_softmax(dim=1))

    def _probabilities(self, logits: Tensor) -> Tensor:
        adjusted = self._adjust(logits)
        return adjusted.softmax(dim=1) if self.renorm else adjusted.exp()

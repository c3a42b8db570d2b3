"""ECM: per-class margins that bound the ranking error of detection."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..frequency import ClassFrequency, FrequencySource
from .base import METHOD_REGISTRY, Reads, require_at_least
from .binary import BinaryMethod
from .weights import seen_count


@METHOD_REGISTRY.register()
class ECM(BinaryMethod):
    """sum_ij v_j BCE(p_ij, y_ij) / R with p = sigma(2 z + 1/4 ln(n_j / (N - n_j))).

    v_j = r ln((1 + r) / r) with r = (N - n_j) / n_j. The background counts as one of C + 1 classes,
    n_b = background_ratio * sum n, and N is the sum over all of them. Test: sigma(z_c)
    (1 - sigma(z_b)). Cho & Kraehenbuehl, "Long-tail Detection with Effective Class-Margins",
    ECCV 2022. Without a background (no part of the paper) N = sum n and the test is sigma(z).

    Args:
        background_ratio: background samples for each foreground sample, > 0, as measured on LVIS.
    """

    background_logit = True
    reads = Reads("sigmoid with a background")

    def __init__(
        self,
        frequency: FrequencySource,
        background: bool = True,
        background_ratio: float = 6.3313,
    ) -> None:
        require_at_least(self, 1e-6, background_ratio=background_ratio)
        self.background_ratio = background_ratio
        super().__init__(frequency, background)

    def derive(self, frequency: ClassFrequency) -> dict[str, np.ndarray]:
        count = seen_count(frequency)
        if self.background:
            count = np.append(count, self.background_ratio * count.sum())
        # One class and no background: r = 0 and v = 0, kept finite; there is nothing to learn.
        ratio = np.maximum((count.sum() - count) / count, np.finfo(np.float64).tiny)
        return {"shift": -np.log(ratio) / 4, "class_weight": ratio * np.log1p(1 / ratio)}

    def _weight(self, target: Tensor, labels: Tensor) -> Tensor:
        return self.class_weight.to(target.dtype)

    def _inverse_link(self, probability: float) -> float:
        # Of sigma(2 z), which training starts with; the margins would need the counts.
        return super()._inverse_link(probability) / 2

    def _entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        return super()._entropy(2 * logits + self.shift.to(logits.dtype), target)

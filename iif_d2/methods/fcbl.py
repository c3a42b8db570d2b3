"""FCBL: margins from the confusions of training so far, against the classes that are mistaken."""

from __future__ import annotations

import torch
from torch import Tensor

from ..frequency import FrequencySource
from .base import METHOD_REGISTRY, Reads, require_at_least
from .binary import BinaryMethod
from .ranks import confusions

LEAST_CONFUSION = 1e-3  # of which a logarithm is taken


@METHOD_REGISTRY.register()
class FCBL(BinaryMethod):
    """sum_ij v_ij BCE(sigma(z'_ij), [y_i = j]) / R; the background has a logit.

    Foreground rows: z'_j = z_j + alpha ln(P_yj / P_jy) for classes j, where P_yj (at least 1e-3) is
    the mean of softmax(z)_j, over classes alone, of all rows of class y before this batch, on all
    ranks. v_j = 1 where s_j >= s_y, s_j >= threshold or j is the background, else 0, with the
    scores s of the test. Background rows: z' = z and v = 1. Test: sigma(z_c) (1 - sigma(z_b)). Qi
    et al., "Balanced Classification: A Unified Framework for Long-Tailed Object Detection" (BACL),
    TMM 2023. Without a background (no part of the paper) the scores are sigma(z).

    P is state, C x C numbers (12 MB for LVIS): it decides how a resumed training goes on. `eval()`
    leaves it alone.

    Args:
        alpha: the strength of the margins, >= 0; 0.85 in the release.
        threshold: the score from which a class is pushed down wherever it is wrong, >= 0; 0.7 in
            the release. Above 1 no score reaches it.
    """

    uses_frequency = False
    has_state = True
    background_logit = True
    reads = Reads("sigmoid with a background")

    def __init__(
        self,
        frequency: FrequencySource,
        background: bool = True,
        alpha: float = 0.85,
        threshold: float = 0.7,
    ) -> None:
        require_at_least(self, 0, alpha=alpha, threshold=threshold)
        self.alpha, self.threshold = alpha, threshold
        super().__init__(frequency, background)
        sums = torch.zeros(self.num_classes, self.num_classes, dtype=torch.float64)
        self.register_buffer("confusion", sums)  # of each class the sum of its rows' softmax
        self.register_buffer("rows", sums[:, :1].clone())

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        target, held = self._target(logits, labels), logits.detach()
        foreground = labels < self.num_classes
        weight = torch.ones_like(held)
        weight[foreground] = self._weight_of_foreground(held[foreground], labels[foreground])
        margin = torch.zeros_like(held)
        margin[foreground, : self.num_classes] = self._margin(labels[foreground]).to(held.dtype)
        if self.training:
            scores, rows = confusions(held[foreground, : self.num_classes], labels[foreground])
            self.confusion += scores
            self.rows += rows
        return (weight * self._entropy(logits + margin, target)).sum() / len(labels)

    def _weight_of_foreground(self, logits: Tensor, label: Tensor) -> Tensor:
        scores = self._probabilities(logits)
        kept = (scores >= scores.gather(1, label[:, None])) | (scores >= self.threshold)
        kept[:, self.num_classes :] = True
        return kept.to(logits.dtype)

    def _margin(self, label: Tensor) -> Tensor:
        mean = self.confusion / self.rows.clamp(min=1)
        log_mean = mean.clamp(min=LEAST_CONFUSION).log()
        return self.alpha * (log_mean[label] - log_mean[:, label].T)

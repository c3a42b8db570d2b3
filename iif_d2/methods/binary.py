"""What the methods that ask one yes/no question a class share: targets, loss, prior and scores."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..frequency import FrequencySource
from .base import LongTailMethod, Reads

PRIOR = 0.001  # the probability every class starts with


class BinaryMethod(LongTailMethod):
    """sum_ij w_ij BCE(p_ij, [y_i = j]) / R with p = sigma(z); no class competes with another.

    A subclass writes `_weight`; and `_scores`, `_entropy`, `_inverse_link` where p is no sigmoid.

    Attributes:
        background_logit: whether the background has a logit of its own. Without one it is the
            target of only zeros, and its probability at test is 0: the last of Detectron2's C+1
            rows of cls_score is dropped.
    """

    background_logit = False
    sigmoid_scores = True
    reads = Reads("sigmoid")

    def __init__(self, frequency: FrequencySource, background: bool = True) -> None:
        if background and self.background_logit:
            self.not_affine = (
                "its scores are sigma(z_c) (1 - sigma(z_b)); no sigmoid of one logit gives them"
            )
        super().__init__(frequency, background)

    @property
    def num_logits(self) -> int:
        return self.num_classes + int(self.background and self.background_logit)

    def init_classifier(self, classifier: nn.Linear) -> None:
        """Let every class start at probability PRIOR; rows beyond `num_logits` stay as they are."""
        bias = getattr(classifier, "bias", None)
        if bias is not None:
            with torch.no_grad():
                bias[: self.num_logits] = self._inverse_link(PRIOR)

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        target = self._target(logits, labels)
        weighted = self._weight(target, labels) * self._entropy(logits, target)
        return weighted.sum() / len(labels)

    def _probabilities(self, logits: Tensor) -> Tensor:
        scores = self._scores(logits)
        if not self.background:
            return scores
        if not self.background_logit:
            return F.pad(scores, (0, 1))
        background = scores[:, -1:]
        return torch.cat([scores[:, :-1] * (1 - background), background], dim=1)

    def _target(self, logits: Tensor, labels: Tensor) -> Tensor:
        """One-hot (R, num_logits); label C has no column of its own unless `background_logit`."""
        return F.one_hot(labels, self.num_classes + 1)[:, : self.num_logits].to(logits.dtype)

    def _weight(self, target: Tensor, labels: Tensor) -> Tensor | float:
        """w, of a shape that broadcasts to the target's."""
        return 1.0

    def _scores(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def _entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none")

    def _inverse_link(self, probability: float) -> float:
        return -math.log((1 - probability) / probability)

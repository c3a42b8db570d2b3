"""EQLv2: each class weighs its positive and negative gradients by their ratio so far."""

from __future__ import annotations

import torch
from torch import Tensor

from ..frequency import FrequencySource
from .base import METHOD_REGISTRY, Reads, require_at_least
from .binary import BinaryMethod
from .ranks import sum_over_ranks

RATIO_AT_START = 100.0


@METHOD_REGISTRY.register()
class EQLv2(BinaryMethod):
    """sum_ij w_ij BCE(sigma(z_ij), y_ij) / R with w = w+ on positives and w- on negatives.

    w- = 1 / (1 + exp(-gamma (g - mu))) and w+ = 1 + alpha (1 - w-) with g = pos / (neg + 1e-10):
    the sums of |sigma - y| w over the positives and negatives of a class so far, over all ranks;
    g is 100 at the start. The background has a logit, weight 1 and no sums. Test: sigma(z_c)
    (1 - sigma(z_b)). Tan et al., "Equalization Loss v2", CVPR 2021.

    The sums are state: they decide how a resumed training goes on. `eval()` leaves them alone.

    Args:
        gamma: the steepness of w- over the ratio, >= 0; 12 in the paper.
        mu: the ratio at which w- is 1/2, >= 0; 0.8 in the paper.
        alpha: how much of what w- takes from negatives positives gain, >= 0; 4 in the paper.
    """

    uses_frequency = False
    has_state = True
    background_logit = True
    reads = Reads("sigmoid with a background")

    def __init__(
        self,
        frequency: FrequencySource,
        background: bool = True,
        gamma: float = 12.0,
        mu: float = 0.8,
        alpha: float = 4.0,
    ) -> None:
        require_at_least(self, 0, gamma=gamma, mu=mu, alpha=alpha)
        self.gamma, self.mu, self.alpha = gamma, mu, alpha
        super().__init__(frequency, background)
        sums = torch.zeros(self.num_classes, dtype=torch.float64)
        self.register_buffer("positive_gradient", sums)
        self.register_buffer("negative_gradient", sums.clone())

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        target = self._target(logits, labels)
        weight = self._weight(target, labels)
        if self.training:
            self._accumulate(logits.detach(), target, weight)
        return (weight * self._entropy(logits, target)).sum() / len(labels)

    def _weight(self, target: Tensor, labels: Tensor) -> Tensor:
        positive, negative = self.positive_gradient, self.negative_gradient
        # A class without any negative gradient is one that has not started.
        ratio = torch.where(negative > 0, positive / (negative + 1e-10), RATIO_AT_START)
        negative_weight = torch.sigmoid(self.gamma * (ratio - self.mu)).to(target.dtype)
        positive_weight = 1 + self.alpha * (1 - negative_weight)
        weight = target.new_ones(target.shape)  # stays 1 in the background's column
        classes = target[:, : self.num_classes]
        weight[:, : self.num_classes] = classes * positive_weight + (1 - classes) * negative_weight
        return weight

    def _accumulate(self, logits: Tensor, target: Tensor, weight: Tensor) -> None:
        gradient = ((logits.sigmoid() - target).abs() * weight)[:, : self.num_classes].double()
        target = target[:, : self.num_classes]
        sums = torch.stack([(gradient * target).sum(dim=0), (gradient * (1 - target)).sum(dim=0)])
        positive, negative = sum_over_ranks(sums)
        self.positive_gradient += positive
        self.negative_gradient += negative

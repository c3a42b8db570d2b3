"""LADE: the logit-adjusted loss and a regulariser that pulls logits to a balanced density."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from ..frequency import FrequencySource
from .base import METHOD_REGISTRY, require_at_least
from .logit_adjustment import LogitAdjustment


@METHOD_REGISTRY.register()
class LADE(LogitAdjustment):
    """CE(softmax(z + ln pi), y) + alpha LADER; test softmax(z), a uniform target prior.

    LADER = -sum_c pi_c [mean_{i: y_i = c} z_ic - R_c - lam R_c^2] with
    R_c = logsumexp_i(z_ic - ln pi_c + ln(1/C)) - ln N over N rows. A class that the batch lacks
    has mean 0 and keeps R_c. With a background: the N foreground rows and their foreground
    columns; LADER is 0 where there are none. Hong et al., "Disentangling Label Distribution for
    Long-tailed Visual Recognition", CVPR 2021.

    Args:
        alpha: the weight of LADER, >= 0: .1 CIFAR-LT, .05 ImageNet-LT, .005 Places-LT; 0 is
            LogitAdjustment.
        lam: the weight of its square, >= 0: .01 CIFAR-LT, .5 ImageNet-LT, .1 Places-LT.
    """

    def __init__(
        self,
        frequency: FrequencySource,
        background: bool = True,
        alpha: float = 0.1,
        lam: float = 0.01,
    ) -> None:
        require_at_least(self, 0, alpha=alpha, lam=lam)
        self.alpha, self.lam = alpha, lam
        super().__init__(frequency, background, tau=1.0)

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        adjusted = super()._loss(logits, labels, features)
        foreground = labels < self.num_classes
        classes, label = logits[foreground, : self.num_classes], labels[foreground]
        if len(label) == 0:
            return adjusted
        return adjusted + self.alpha * self._lader(classes, label)

    def _lader(self, classes: Tensor, label: Tensor) -> Tensor:
        log_pi = self.shift[: self.num_classes].to(classes.dtype)
        own = F.one_hot(label, self.num_classes).to(classes.dtype)
        mean = (classes * own).sum(dim=0) / own.sum(dim=0).clamp(min=1)
        spread = (classes - log_pi - math.log(self.num_classes)).logsumexp(dim=0)
        spread = spread - math.log(len(label))
        return -(log_pi.exp() * (mean - spread - self.lam * spread**2)).sum()

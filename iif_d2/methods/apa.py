"""APA: a parametric activation between the logistic and the Gumbel, over DropLoss's mask."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..frequency import FrequencySource
from .base import METHOD_REGISTRY, Reads, require_at_least
from .drop_loss import DropLoss

LEAST = 1e-4  # of a learnt lam or kap
FAR = 30.0  # of kap z: from here on 1 - eta is exp(-kap z), and the rest rounds away


@METHOD_REGISTRY.register()
class APA(DropLoss):
    """sum_ij w_ij BCE(eta(z_ij), y_ij) / R with eta(z) = (1 + lam exp(-kap z))^(-1/lam).

    w is DropLoss's. Test: eta(z_c), and 0 for the background, which has no logit. lam = kap = 1 is
    the sigmoid, and lam -> 0 the Gumbel's exp(-exp(-kap z)). Alexandridis et al., "Adaptive
    Parametric Activation", ECCV 2024, over the logits.

    Args:
        lam: lambda, or where it starts, >= 0. 0 is the Gumbel; for that METHOD GOL also clamps.
        kap: kappa, or where it starts, >= 1e-4.
        learnt: one lam and one kap for all classes learn with the model, in it each is at least
            1e-4; False: they stay as given.
    """

    not_affine = "its scores are a parametric activation's, which no sigmoid gives"

    def __init__(
        self,
        frequency: FrequencySource,
        background: bool = True,
        threshold: float = 1.1e-3,
        lam: float = 1.0,
        kap: float = 1.0,
        learnt: bool = True,
    ) -> None:
        require_at_least(self, LEAST if learnt else 0, lam=lam)
        require_at_least(self, LEAST, kap=kap)
        self.learnt, self.start = learnt, (float(lam), float(kap))
        self.reads = Reads("APA, learnt" if learnt else f"APA {lam:g} {kap:g}")
        super().__init__(frequency, background, threshold)
        self.lam = nn.Parameter(torch.tensor(float(lam))) if learnt else lam
        self.kap = nn.Parameter(torch.tensor(float(kap))) if learnt else kap

    def _scores(self, logits: Tensor) -> Tensor:
        return (-self._surprise(self._scaled(logits))).exp()

    def _entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        scaled = self._scaled(logits)
        near = self._surprise(scaled.clamp(max=FAR))
        log_not_p = torch.where(scaled > FAR, -scaled, (-(-near).expm1()).log())
        return target * self._surprise(scaled) - (1 - target) * log_not_p

    def _scaled(self, logits: Tensor) -> Tensor:
        """kap z."""
        kap = self.kap
        return logits * (kap.clamp(min=LEAST).to(logits.dtype) if isinstance(kap, Tensor) else kap)

    def _surprise(self, scaled: Tensor) -> Tensor:
        """-ln eta = softplus(ln lam - kap z) / lam, of kap z."""
        if isinstance(self.lam, Tensor):
            lam = self.lam.clamp(min=LEAST).to(scaled.dtype)
            return -F.logsigmoid(scaled - lam.log()) / lam
        if self.lam == 0:
            return (-scaled).exp()
        return -F.logsigmoid(scaled - math.log(self.lam)) / self.lam

    def _inverse_link(self, probability: float) -> float:
        (lam, kap), log_p = self.start, math.log(probability)
        odds = math.expm1(-lam * log_p) / lam if lam else -log_p  # exp(-kap z)
        return -math.log(odds) / kap

    def _loss_without_rows(self, logits: Tensor) -> Tensor:
        zero = super()._loss_without_rows(logits)  # the pair has a gradient on every rank
        return zero + 0.0 * (self.lam + self.kap) if self.learnt else zero

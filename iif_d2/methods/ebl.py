"""EBL: the mean score each class has had so far, inside the softmax, in training only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError
from ..frequency import FrequencySource
from .base import METHOD_REGISTRY, LongTailMethod, require_at_least
from .ranks import sum_over_ranks

SCORE_AT_START = 0.01
LEAST_SCORE = 1e-30  # of which a logarithm is taken


@METHOD_REGISTRY.register()
class EBL(LongTailMethod):
    """CE(softmax(z + ln s), y), where s_c is class c's mean score so far; test softmax(z).

    Before the loss of a batch s_c becomes momentum s_c + (1 - momentum) q_c, where q_c is the mean
    of softmax(z)_c over the rows of class c, on all ranks, without gradient; a class that the batch
    lacks keeps its s. All s start at 0.01, where the background's stays. Feng et al., "Exploring
    Classification Equilibrium in Long-Tailed Object Detection" (LOCE), ICCV 2021: 6 epochs over
    a model that softmax has trained for 24.

    The authors' release updates s once for each of the k objects that a batch has of a class, with
    momentum^k, and q_c is a mean over objects. Logits do not tell how many objects their regions
    belong to. So here s_c is updated once for each batch that has class c, and q_c is a mean over
    its regions. For a rare class, of which a batch has one object, both are the same.

    s is state: it decides how a resumed training goes on. `eval()` leaves it alone.

    Args:
        momentum: the share of s that a batch leaves, in [0, 1); 0.9 in the paper.
    """

    uses_frequency = False
    has_state = True

    def __init__(
        self, frequency: FrequencySource, background: bool = True, momentum: float = 0.9
    ) -> None:
        require_at_least(self, 0, momentum=momentum)
        if momentum >= 1:
            raise ConfigError(f"EBL: momentum must be below 1, not {momentum!r}")
        self.momentum = momentum
        super().__init__(frequency, background)
        start = torch.full((self.num_logits,), SCORE_AT_START, dtype=torch.float64)
        self.register_buffer("mean_score", start)

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        if self.training:
            self._accumulate(logits.detach(), labels)
        shift = self.mean_score.clamp(min=LEAST_SCORE).log()
        return F.cross_entropy(logits + shift.to(logits.dtype), labels)

    def _accumulate(self, logits: Tensor, labels: Tensor) -> None:
        own = F.one_hot(labels, self.num_logits).double()
        own[:, self.num_classes :] = 0  # the background keeps its own
        scores = own * logits.softmax(dim=1)
        total, rows = sum_over_ranks(torch.stack([scores.sum(dim=0), own.sum(dim=0)]))
        step = (1 - self.momentum) * (rows > 0).double()
        self.mean_score += step * (total / rows.clamp(min=1) - self.mean_score)

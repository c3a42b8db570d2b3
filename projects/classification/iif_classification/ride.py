"""RIDE: diverse experts under LDAM-DRW, without the router (Wang et al., ICLR 2021)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from iif_d2.errors import ConfigError
from iif_d2.frequency import ClassFrequency, FrequencySource
from iif_d2.methods.ldam import LDAM
from iif_d2.methods.weights import seen_count


class RIDE(LDAM):
    """sum_k LDAM(z_k, y) - diversity * mean(T)^2 * KL(softmax(m / T) || softmax(z_k / T)).

    m is the mean of all z_k without its gradient. LDAM is deferred-reweighted as in its own file.
    The temperatures T are 1 until then; afterwards T_c ~ 1 - f + f * C * n_c / sum(n), divided by
    the largest, so that rare classes decide more of how far experts differ. Test: softmax(m).

    Args:
        diversity: the weight of the divergence between experts that is rewarded, >= 0: .45
            CIFAR-LT, .2 ImageNet-LT.
        temperature_share: f, in [0, 1]; .05 from memory of the release (unverified).
    """

    takes_experts = True

    def __init__(
        self,
        frequency: FrequencySource,
        background: bool = False,
        diversity: float = 0.45,
        temperature_share: float = 0.05,
        max_margin: float = 0.5,
        scale: float = 30.0,
        beta: float = 0.9999,
        deferred_epoch: int = 160,
    ) -> None:
        if not 0 <= temperature_share <= 1 or not diversity >= 0:
            raise ConfigError(
                f"RIDE: DIVERSITY must be 0 or more, not {diversity}, and TEMPERATURE_SHARE in "
                f"[0, 1], not {temperature_share}"
            )
        self.diversity, self.temperature_share = diversity, temperature_share
        super().__init__(frequency, background, max_margin, scale, beta, deferred_epoch)

    def loss(self, logits: Tensor, labels: Tensor, features: Tensor | None = None) -> Tensor:
        """`logits`: (R, K, C) of K experts."""
        rows, experts, classes = logits.shape
        logits = self._prepare(logits.reshape(-1, classes)).view(rows, experts, classes)
        if rows == 0:
            return logits.sum() * 0.0
        deferred = int(self.epoch) < self.deferred_epoch
        temperature = self.temperature.to(logits.dtype)
        temperature = torch.ones_like(temperature) if deferred else temperature
        mean = (logits.detach().mean(1) / temperature).softmax(-1)
        total = logits.new_zeros(())
        for expert in logits.unbind(1):
            apart = F.kl_div((expert / temperature).log_softmax(-1), mean, reduction="batchmean")
            total = total + self._loss(expert, labels, None)
            total = total - self.diversity * temperature.mean() ** 2 * apart
        return total

    def derive(self, frequency: ClassFrequency) -> dict[str, np.ndarray]:
        count = seen_count(frequency)
        share = self.temperature_share
        temperature = 1 - share + share * len(count) * count / count.sum()
        temperature /= temperature.max()
        return {**super().derive(frequency), "temperature": temperature}

"""LDAM: larger margins for rarer classes, with deferred reweighting."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError
from ..frequency import ClassFrequency, FrequencySource
from .base import METHOD_REGISTRY, LongTailMethod, require_at_least
from .weights import seen_count


@METHOD_REGISTRY.register()
class LDAM(LongTailMethod):
    """CE(softmax(z'), y) with z'_y = z_y - scale * m_y, m_c = max_margin (min_j n_j / n_c)^(1/4).

    z = scale * cos are the logits of a cosine classifier of this scale; test softmax(z). From
    `deferred_epoch` on (DRW) row i weighs w_{y_i} = (1 - beta) / (1 - beta^n_c), and the loss is
    divided by the sum of the rows' weights, as published, not by R. Cao et al., "Learning
    Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019.

    The trainer calls `set_epoch` at the start of each epoch; the epoch is kept in the state.

    Args:
        max_margin: the margin of the rarest class, >= 0; .5 in the release.
        scale: the classifier's, >= 0.
        beta: of the effective number of samples that the weights divide by, in [0, 1); .9999 in
            the release.
        deferred_epoch: the first epoch, from 0, with weights; 160 of 200 on CIFAR.
    """

    supports_background = False
    given_by_model = ("scale", "deferred_epoch")

    def __init__(
        self,
        frequency: FrequencySource,
        background: bool = False,
        max_margin: float = 0.5,
        scale: float = 30.0,
        beta: float = 0.9999,
        deferred_epoch: int = 160,
    ) -> None:
        require_at_least(
            self, 0, max_margin=max_margin, scale=scale, beta=beta, deferred_epoch=deferred_epoch
        )
        if beta >= 1:
            raise ConfigError(f"LDAM: beta must be below 1, not {beta!r}")
        self.max_margin, self.scale, self.beta = max_margin, scale, beta
        self.deferred_epoch = deferred_epoch
        super().__init__(frequency, background)
        self.register_buffer("epoch", torch.tensor(0))

    def set_epoch(self, epoch: int) -> None:
        """Tell which epoch, from 0, is about to start."""
        self.epoch.fill_(epoch)

    def derive(self, frequency: ClassFrequency) -> dict[str, np.ndarray]:
        count = seen_count(frequency)
        return {
            "margin": self.max_margin * (count.min() / count) ** 0.25,
            "class_weight": (1 - self.beta) / (1 - self.beta**count),
        }

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        own = F.one_hot(labels, self.num_classes)
        logits = logits - own * (self.scale * self.margin).to(logits.dtype)
        deferred = int(self.epoch) < self.deferred_epoch
        weight = None if deferred else self.class_weight.to(logits.dtype)
        return F.cross_entropy(logits, labels, weight)

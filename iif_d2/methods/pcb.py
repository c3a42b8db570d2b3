"""PCB: targets softened by which classes have been taken for which, over another method's loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..frequency import FrequencySource
from .base import METHOD_REGISTRY, LongTailMethod, require_at_least
from .ranks import confusions
from .registry import build_method


@METHOD_REGISTRY.register()
class PCB(LongTailMethod):
    """[L over background rows + (1 - alpha) L over foreground rows + alpha KL(T_y || p)] / R.

    L and the test are the base method's; p is the softmax of its adjusted logits. T_y(i) = Q_iy /
    sum_k Q_ky, without gradient. Row y of Q becomes momentum Q_y + (1 - momentum) q_y before the
    loss of each batch with rows of class y, on all ranks, where q_y is the mean of their softmax
    over the classes alone; the first time it is q_y. A class that no batch had yet is in no target
    (the release waits for every class). He et al., "Relieving Long-tailed Instance Segmentation via
    Pairwise Class Balance", CVPR 2022. Q (C x C, 12 MB for LVIS) and the steps so far are state.

    Args:
        base: Softmax or another softmax without state, with the options of that one's own node.
        alpha: the weight of the soft targets, in [0, 1]; 0.4 in the paper, 0 is the base alone.
        momentum: the share of Q that a batch leaves, in [0, 1]; 0.99 in the paper.
        start: the share of training before it acts, in [0, 1]; 17/24 in the paper. In a .py config
            also give `max_iter`.
    """

    supports_no_background = False
    uses_frequency = False  # the base may
    has_state = True
    given_by_model = ("base_options", "max_iter")

    def __init__(
        self,
        frequency: FrequencySource,
        background: bool = True,
        base: str = "Softmax",
        alpha: float = 0.4,
        momentum: float = 0.99,
        start: float = 17 / 24,
        base_options: dict[str, Any] | None = None,
        max_iter: int = 0,
    ) -> None:
        require_at_least(self, 0, alpha=alpha, momentum=momentum, start=start, max_iter=max_iter)
        if max(alpha, momentum, start) > 1:
            raise ConfigError("PCB: alpha, momentum and start must be 1 or less")
        method = build_method(base, frequency, background, **(base_options or {}))
        if not method.is_adjusted_softmax or method.has_state:
            raise ConfigError(
                f"PCB: base {base} gathers state or is no softmax of adjusted logits; use Softmax"
            )
        self.alpha, self.momentum, self.first_step = alpha, momentum, start * max_iter
        self.reads = method.reads
        super().__init__(frequency, background)
        self.base = method
        unknown = torch.zeros(self.num_classes, self.num_classes, dtype=torch.float64)
        self.register_buffer("confusion", unknown)  # Q
        self.register_buffer("steps", torch.tensor(0))

    def init_classifier(self, classifier: nn.Linear) -> None:
        self.base.init_classifier(classifier)

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        return self.base.affine()

    def _adjust(self, logits: Tensor) -> Tensor:
        return self.base.adjust(logits)

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        foreground, classes = labels < self.num_classes, self._adjust(logits)
        classes, label = classes[foreground], labels[foreground]
        acts = int(self.steps) >= self.first_step
        if self.training:
            self._accumulate(classes.detach()[:, : self.num_classes], label)
        if not acts:
            return self.base.loss(logits, labels)
        shares = (self.confusion / self.confusion.sum(dim=0)).nan_to_num()  # 0 / 0: none yet
        target = shares.T[label].to(logits.dtype)
        log_p = classes.log_softmax(dim=1)[:, : self.num_classes]
        loss = self.alpha * (torch.special.xlogy(target, target) - target * log_p).sum()
        for own, share in ((~foreground, 1.0), (foreground, 1 - self.alpha)):
            loss = loss + share * int(own.sum()) * self.base.loss(logits[own], labels[own])
        return loss / len(labels)

    def _accumulate(self, classes: Tensor, label: Tensor) -> None:
        scores, rows = confusions(classes, label)
        known = self.confusion.any(dim=1, keepdim=True).double()
        step = (1 - self.momentum * known) * (rows > 0)
        self.confusion += step * (scores / rows.clamp(min=1) - self.confusion)
        self.steps += 1

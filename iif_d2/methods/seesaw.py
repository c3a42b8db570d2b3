"""Seesaw: rare classes get less punishment from frequent ones, more where they are mistaken."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..frequency import FrequencySource
from .base import METHOD_REGISTRY, LongTailMethod, Reads, require_at_least
from .ranks import sum_over_ranks


@METHOD_REGISTRY.register()
class Seesaw(LongTailMethod):
    """(CE(z + ln(M_y S_y), y) over foreground rows + CE of the objectness over all rows) / R.

    Mitigation M_ij = (N_j / N_i)^p where N_j < N_i, else 1, with N the labels seen so far over all
    ranks, this batch included and each at least 1. Compensation S_ij = r^q where
    r = s_j / max(s_i, eps) > 1, else 1, with s = softmax(z) without gradient. Wang et al., "Seesaw
    Loss for Long-Tailed Instance Segmentation", CVPR 2021; usual with the cosine classifier.

    With a background there are C + 2 logits: the classes, then the objectness' foreground and
    background. Test: softmax(z)_c softmax(o)_fg, and softmax(o)_bg for the background. Without a
    background there are C logits and no objectness; test: softmax(z).

    N is state: it decides how a resumed training goes on. `eval()` leaves it alone.

    Args:
        p: the exponent of the mitigation, >= 0; 0.8 in the paper.
        q: the exponent of the compensation, >= 0; 2 in the paper.
        eps: the least score that a compensation divides by, > 0; 0.01 in the release.
    """

    uses_frequency = False
    has_state = True
    reads = Reads("softmax and objectness")

    def __init__(
        self,
        frequency: FrequencySource,
        background: bool = True,
        p: float = 0.8,
        q: float = 2.0,
        eps: float = 1e-2,
    ) -> None:
        require_at_least(self, 0, p=p, q=q)
        require_at_least(self, 1e-12, eps=eps)
        self.p, self.q, self.eps = p, q, eps
        if background:
            self.not_affine = "its scores are the product of two softmaxes, classes and objectness"
        super().__init__(frequency, background)
        self.register_buffer("label_count", torch.zeros(self.num_classes, dtype=torch.int64))

    @property
    def num_logits(self) -> int:
        return self.num_classes + 2 * int(self.background)

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        if self.training:
            count = labels.bincount(minlength=self.num_classes + 1)[: self.num_classes]
            self.label_count += sum_over_ranks(count)
        foreground = labels < self.num_classes
        classes, label = logits[foreground, : self.num_classes], labels[foreground]
        factor = self._log_factor(classes.detach(), label)
        loss = F.cross_entropy(classes + factor, label, reduction="sum")
        if self.background:
            objectness = logits[:, self.num_classes :]
            loss = loss + F.cross_entropy(objectness, (~foreground).long(), reduction="sum")
        return loss / len(labels)

    def _log_factor(self, classes: Tensor, label: Tensor) -> Tensor:
        """ln(M_yj S_yj), 0 for j = y."""
        log_count = self.label_count.clamp(min=1).double().log().to(classes.dtype)
        mitigation = self.p * (log_count - log_count[label][:, None]).clamp(max=0)
        log_score = classes.log_softmax(dim=1)
        own = log_score.gather(1, label[:, None]).clamp(min=math.log(self.eps))
        return mitigation + self.q * (log_score - own).clamp(min=0)

    def _probabilities(self, logits: Tensor) -> Tensor:
        scores = logits[:, : self.num_classes].softmax(dim=1)
        if not self.background:
            return scores
        objectness = logits[:, self.num_classes :].softmax(dim=1)
        return torch.cat([scores * objectness[:, :1], objectness[:, 1:]], dim=1)

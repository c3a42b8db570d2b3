"""Softmax cross-entropy: the control that every method is compared with."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..frequency import ClassFrequency
from .base import DeferredFrequency, LongTailMethod
from .registry import METHOD_REGISTRY


@METHOD_REGISTRY.register()
class Softmax(LongTailMethod):
    """CE(softmax(z), y): Detectron2's own loss and scores, bit for bit."""

    uses_frequency = False

    def __init__(
        self, frequency: ClassFrequency | DeferredFrequency, background: bool = True
    ) -> None:
        super().__init__(len(frequency), background)

    def _affine(self) -> tuple[np.ndarray, np.ndarray]:
        return self._identity()

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        return F.cross_entropy(logits, labels)

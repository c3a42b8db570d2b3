"""LOS: a trained model's classifier, retrained with labels that are smoothed very far."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError
from ..frequency import FrequencySource
from .base import METHOD_REGISTRY, LongTailMethod, require_at_least


@METHOD_REGISTRY.register()
class LOS(LongTailMethod):
    """CE(softmax(z), t) with t_j = (1 - smoothing) [y = j] + smoothing / K over K logits.

    A second stage: the classifier learns, and the model that it stands on is frozen. Test:
    softmax(z). Sun et al., "Rethinking Classifier Re-Training in Long-Tailed Recognition: Label
    Over-Smooth Can Balance", ICLR 2025: classification, 20 epochs, learning rate 5e-4 along a
    cosine, no weight decay. With a background (no part of the paper) it is one of the K.

    Args:
        smoothing: the share of the target that all classes have alike, in [0, 1); 0.98 in the
            paper, 0 is softmax.
    """

    uses_frequency = False
    second_stage = True
    retrains_classifier = True

    def __init__(
        self, frequency: FrequencySource, background: bool = True, smoothing: float = 0.98
    ) -> None:
        require_at_least(self, 0, smoothing=smoothing)
        if smoothing >= 1:
            raise ConfigError(f"LOS: smoothing must be below 1, not {smoothing!r}")
        self.smoothing = smoothing
        super().__init__(frequency, background)

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing)

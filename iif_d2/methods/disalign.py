"""DisAlign: a second stage that realigns a frozen model's class logits."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..frequency import ClassFrequency, FrequencySource
from .base import METHOD_REGISTRY, LongTailMethod, require_at_least
from .logit_adjustment import log_prior


@METHOD_REGISTRY.register()
class DisAlign(LongTailMethod):
    """sum_i w_{y_i} CE(softmax(z'_i), y_i) / R over realigned logits z'; test softmax(z').

    s = sigma(v . x + v_0) of the features x. With a background, foreground only:
    z' = s (alpha z + beta) + (1 - s) z; without one: z' = (1 + s alpha) z + s beta. alpha starts at
    1, beta at 0. w_c = C (1/pi_c)^rho / sum_j (1/pi_j)^rho, 1 for the background. Zhang et al.,
    "Distribution Alignment", CVPR 2021.

    `method(z, x)` realigns; `loss`, `adjust` and `probabilities` take what it gives, and
    `loss(z, y, x)` does both. alpha, beta and v learn, the model they stand on is frozen.

    Args:
        rho: the power of the inverse class share, >= 0; by default (None) as published, 0.8 with a
            background (LVIS), 1.2 without (ImageNet-LT).
        feature_dim: D of x (R, D); taken from the classifier or a checkpoint where not given.
    """

    second_stage = True
    given_by_model = ("feature_dim",)
    not_affine = "it scales and shifts by a confidence that depends on the features of each region"

    def __init__(
        self,
        frequency: FrequencySource,
        background: bool = True,
        rho: float | None = None,
        feature_dim: int | None = None,
    ) -> None:
        self.rho = (0.8 if background else 1.2) if rho is None else rho
        require_at_least(self, 0, rho=self.rho)
        super().__init__(frequency, background)
        self.alpha = nn.Parameter(torch.ones(self.num_classes))
        self.beta = nn.Parameter(torch.zeros(self.num_classes))
        self.register_parameter("confidence_weight", None)
        self.register_parameter("confidence_bias", None)
        if feature_dim is not None:
            self._init_confidence(feature_dim)

    def init_classifier(self, classifier: nn.Linear) -> None:
        self._init_confidence(classifier.weight.shape[1])

    def _init_confidence(self, feature_dim: int) -> None:
        layer = nn.Linear(feature_dim, 1, device=self.alpha.device)
        self.confidence_weight, self.confidence_bias = layer.weight, layer.bias

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        weight = state_dict.get(prefix + "confidence_weight")
        if weight is not None and self.confidence_weight is None:
            self._init_confidence(weight.shape[1])
        super()._load_from_state_dict(state_dict, prefix, *args)

    def derive(self, frequency: ClassFrequency) -> dict[str, np.ndarray]:
        weight = np.exp(-self.rho * log_prior(frequency))
        weight *= self.num_classes / weight.sum()
        return {"class_weight": self._with_background(weight, 1.0)}

    def forward(self, logits: Tensor, features: Tensor | None = None) -> Tensor:
        if features is None or self.confidence_weight is None:
            raise ConfigError(
                "DisAlign realigns logits by the classifier's features: call method(logits, "
                "features), after init_classifier or with the option feature_dim"
            )
        logits = self._prepare(logits)
        z, background = logits[:, : self.num_classes], logits[:, self.num_classes :]
        product = features.to(z.dtype) * self.confidence_weight.to(z.dtype)
        # no matrix product, which autocast would round
        s = (product.sum(dim=1, keepdim=True) + self.confidence_bias.to(z.dtype)).sigmoid()
        alpha, beta = self.alpha.to(z.dtype), self.beta.to(z.dtype)
        if not self.background:
            return (1 + s * alpha) * z + s * beta
        return torch.cat([s * (alpha * z + beta) + (1 - s) * z, background], dim=1)

    def loss(self, logits: Tensor, labels: Tensor, features: Tensor | None = None) -> Tensor:
        return super().loss(logits if features is None else self(logits, features), labels)

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        weight = self.class_weight.to(logits.dtype)
        return F.cross_entropy(logits, labels, weight, reduction="sum") / len(labels)

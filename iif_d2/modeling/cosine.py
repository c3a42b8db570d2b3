"""The cosine classifier: logits by angle, so that a class's norm cannot favour it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class CosineLinear(nn.Linear):
    """z = scale * w/|w| . x/|x| + b, with the parameters of `nn.Linear`.

    Args:
        scale: tau, the largest |z - b|; > 0.
    """

    def __init__(self, in_features: int, out_features: int, scale: float = 20.0) -> None:
        super().__init__(in_features, out_features)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.normalize(x) * self.scale, F.normalize(self.weight), self.bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale}"

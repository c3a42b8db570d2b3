"""The cosine classifier: logits by angle, so that a class's norm cannot favour it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError


class CosineLinear(nn.Linear):
    """z = scale * w/|w| . x/|x| + b, with the parameters of `nn.Linear`.

    Args:
        scale: tau, the largest |z - b|; > 0, else a `ConfigError`.
    """

    def __init__(self, in_features: int, out_features: int, scale: float = 20.0) -> None:
        super().__init__(in_features, out_features)
        if not scale > 0:
            raise ConfigError(f"MODEL.LONG_TAIL.COSINE_SCALE is {scale}; it must be above 0")
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.normalize(x) * self.scale, F.normalize(self.weight), self.bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale}"

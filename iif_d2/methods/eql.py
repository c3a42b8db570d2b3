"""EQL: rare classes are not pushed down by the foreground rows of other classes."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..frequency import ClassFrequency, FrequencySource
from .base import METHOD_REGISTRY, require_at_least
from .binary import BinaryMethod


@METHOD_REGISTRY.register()
class EQL(BinaryMethod):
    """sum_ij w_ij BCE(sigma(z_ij), y_ij) / R with w_ij = 1 - E(i) T(f_j) (1 - y_ij).

    E(i) = 1 on foreground rows, T(f_j) = 1 where f_j = n_j / N_img < lambda. Tan et al.,
    "Equalization Loss for Long-Tailed Object Recognition", CVPR 2020.

    Args:
        threshold: lambda, >= 0: classes in a smaller share of the training images are rare. 1.1e-3
            for LVIS v1; for v0.5 1.76e-3, DropLoss 1.77e-3. 0 makes no class rare: Sigmoid.
    """

    def __init__(
        self, frequency: FrequencySource, background: bool = True, threshold: float = 1.1e-3
    ) -> None:
        require_at_least(self, 0, threshold=threshold)
        self.threshold = threshold
        super().__init__(frequency, background)

    def derive(self, frequency: ClassFrequency) -> dict[str, np.ndarray]:
        share = frequency.image_count / max(frequency.num_images, 1)
        return {"rare": share < self.threshold}  # T

    def _weight(self, target: Tensor, labels: Tensor) -> Tensor:
        return 1 - self._excluded(labels) * self.rare.to(target.dtype) * (1 - target)

    def _excluded(self, labels: Tensor) -> Tensor:
        """E, of a shape that broadcasts to (R, C): where rare classes are not pushed down."""
        return (labels < self.num_classes)[:, None]

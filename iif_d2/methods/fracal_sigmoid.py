"""FRACAL for sigmoid heads: each score times the sigmoid of its shifted logit."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..frequency import ClassFrequency
from .base import METHOD_REGISTRY
from .binary import BinaryMethod
from .fracal import OfDimensions, frequency_shift


@METHOD_REGISTRY.register()
class FRACALSigmoid(OfDimensions, BinaryMethod):
    """Test: sigma(z_c) sigma(z_c + w_c + f_c), 0 for the background; the loss is Sigmoid's.

    f_c = -log10(D_c^lam / sum_j D_j^lam) - log10 C; w_c and D_c are FRACAL's. It serves any model
    whose logits are for sigma(z), such as EQL's and DropLoss's. Alexandridis et al., "Fractal
    Calibration for Long-tailed Object Detection", CVPR 2025.
    """

    not_affine = "its scores are the product of two sigmoids of a logit"

    def derive(self, frequency: ClassFrequency) -> dict[str, np.ndarray]:
        power = np.asarray(frequency.dimension) ** self.lam
        shift = -np.log10(power / power.mean())  # the mean holds C
        if self.with_frequency:
            shift = shift + frequency_shift(frequency)
        return {"shift": shift}

    def _probabilities(self, logits: Tensor) -> Tensor:
        shifted = logits + self.shift.to(logits.dtype)
        return super()._probabilities(logits) * F.pad(shifted.sigmoid(), (0, 1))

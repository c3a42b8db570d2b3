"""FRACAL: classes that lie in few places of the image are raised at test, beside the rare ones."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..frequency import ClassFrequency, FrequencySource
from .base import METHOD_REGISTRY, LongTailMethod, require_at_least
from .weights import seen_count


def frequency_shift(frequency: ClassFrequency) -> np.ndarray:
    """float64 (C,): w_c = log10(N_img / n_c) - log10 C; a class never seen counts as seen once."""
    return np.log10(frequency.num_images / seen_count(frequency) / len(frequency))


class OfDimensions(LongTailMethod):
    """What FRACAL's two forms share: their options, and that they need the dimensions.

    Args:
        lam: lambda, the strength of the dimensions, >= 0; 2 in the paper, 0 is without them.
        with_frequency: False: w_c = 0, the dimensions alone.
    """

    supports_no_background = False  # an image's class lies nowhere in it
    uses_dimension = True

    def __init__(
        self,
        frequency: FrequencySource,
        background: bool = True,
        lam: float = 2.0,
        with_frequency: bool = True,
    ) -> None:
        require_at_least(self, 0, lam=lam)
        self.lam, self.with_frequency = lam, with_frequency
        super().__init__(frequency, background)


@METHOD_REGISTRY.register()
class FRACAL(OfDimensions):
    """Test: softmax(z_c + w_c - lam ln D_c), the background's logit as it is; softmax's loss.

    w_c = log10(N_img / n_c) - log10 C. D_c in [1, 2] is the box-counting dimension of the centres
    of class c's boxes in the training set (`iif_d2.data.dimension`); a checkpoint keeps it.
    Alexandridis et al., "Fractal Calibration for Long-tailed Object Detection", CVPR 2025.
    FRACALSigmoid is its form for sigmoid heads.
    """

    def derive(self, frequency: ClassFrequency) -> dict[str, np.ndarray]:
        shift = -self.lam * np.log(np.asarray(frequency.dimension))
        if self.with_frequency:
            shift = shift + frequency_shift(frequency)
        return {"shift": self._with_background(shift, 0.0)}

    def _scale_and_shift(self) -> tuple[None, Tensor]:
        return None, self.shift

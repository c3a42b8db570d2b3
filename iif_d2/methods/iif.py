"""IIF: inverse image frequency, a per-class factor on the foreground logits (Eq. 3-6)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..frequency import ClassFrequency
from .base import DeferredFrequency, LongTailMethod
from .options import require_at_least
from .registry import METHOD_REGISTRY
from .weights import iif_weights


@METHOD_REGISTRY.register()
class IIF(LongTailMethod):
    """CE(softmax(w * z), y) with w_c = -log p_c for the foreground and 1 for the background.

    The same factor serves training and test (Eq. 5), and by Eq. 6 it is also the factor of the
    gradient of z. Alexandridis et al., "Inverse Image Frequency for Long-tailed Image Recognition".

    Args:
        variant, statistic, normalizer: see `iif_weights`.
        strength: s in [0, 1], the exponent of the factor, w_c^s: 0 is softmax, 1 the paper's.
        post_hoc: the factor at test only, over a model trained with plain softmax
            ("post-process IIF"); the loss is then softmax's.
    """

    def __init__(
        self,
        frequency: ClassFrequency | DeferredFrequency,
        background: bool = True,
        variant: str = "raw",
        statistic: str = "image",
        normalizer: str = "sum",
        post_hoc: bool = False,
        strength: float = 1.0,
    ) -> None:
        super().__init__(len(frequency), background)
        require_at_least(self, 0, strength=strength)
        if strength > 1:
            raise ConfigError(f"IIF: strength must be 1 or less, not {strength!r}")
        self.variant, self.statistic, self.normalizer = variant, statistic, normalizer
        self.post_hoc, self.strength = post_hoc, strength
        if not post_hoc and strength > 0:
            self.reads = f"softmax by IIF {variant}, {statistic}, {normalizer}, {strength:g}"
        self.set_frequency(frequency)

    def init_classifier(self, classifier: nn.Linear) -> None:
        """Detectron2's N(0, .01) becomes N(0, .001): a factor of 4-12 must not start biased.

        Loss of the first batch of mini_lvis (seeds 0-2, chance is ln 61 = 4.11): 4.11-4.12, against
        4.25-4.29 with N(0, .01) and 4.40-4.47 with the authors' constant .001
        (projects/benchmark/first_loss.py). A start by 1/w_c would need the counts, which building a
        model does not read. A cosine classifier's logits do not follow the length of its weights:
        shorter ones would only take longer first steps, so they stay.
        """
        cosine = hasattr(classifier, "scale")
        if self.background and not self.post_hoc and not cosine:
            with torch.no_grad():
                classifier.weight.mul_(0.1)

    def _derive(self, frequency: ClassFrequency) -> None:
        weight = iif_weights(frequency, self.variant, self.statistic, self.normalizer)
        weight = weight**self.strength
        # x * 1.0 is x bit for bit, so the background's logit reaches the softmax as it is.
        self._constant("weight", np.append(weight, 1.0) if self.background else weight)

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        return F.cross_entropy(logits if self.post_hoc else self._adjust(logits), labels)

    def _adjust(self, logits: Tensor) -> Tensor:
        return logits * self.weight.to(logits.dtype)

    def _affine(self) -> tuple[np.ndarray, np.ndarray]:
        weight = self.weight.cpu().numpy()
        return weight, np.zeros_like(weight)

    def extra_repr(self) -> str:
        return (
            f"{self.variant}, statistic={self.statistic}, normalizer={self.normalizer}, "
            f"strength={self.strength}" + (", post_hoc" if self.post_hoc else "")
        )

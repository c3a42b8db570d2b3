"""IIF: inverse image frequency, a per-class factor on the foreground logits (Eq. 3-6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..frequency import ClassFrequency, FrequencySource
from ..groups import GROUPS
from .base import METHOD_REGISTRY, LongTailMethod, Reads, require_at_least
from .weights import iif_weights


@METHOD_REGISTRY.register()
class IIF(LongTailMethod):
    """CE(softmax(w * z), y) with w_c = -log p_c for the foreground and 1 for the background.

    The same factor serves training and test (Eq. 5), and by Eq. 6 it is also the factor of the
    gradient of z. Alexandridis et al., "Inverse Image Frequency for Long-tailed Image Recognition".

    Args:
        variant: the factor: raw (Eq. 3), smooth (the paper's for classification), rel, normit,
            gombit, base2 or base10 (its ablation); or constant, raw's root mean square for every
            class, the control for "inverse frequency".
        statistic: count "image"s that hold the class (Eq. 1), or "instance"s of it.
        normalizer: p_c = n_c / "sum" of n (Eq. 2), or n_c / number of training "images" (the
            authors' released weights).
        post_hoc: the factor at test only, over a model trained with Softmax ("post-process IIF").
        strength: s in [0, 1], the exponent of the factor, w_c^s: 0 is softmax, 1 the paper's;
            `python -m iif_d2 sweep` scores several.
        group_strength: three exponents in its place, of rare, common and frequent classes, as
            `sweep --fit-groups` finds them; empty: one for all.

    Examples:
        >>> frequency = ClassFrequency(("cat", "owl"), [90, 10], [120, 10], num_images=100)
        >>> IIF(frequency, variant="base10").weight  # -log10 p_c, and 1 for the background
        tensor([0.0458, 1.0000, 1.0000], dtype=torch.float64)
    """

    def __init__(
        self,
        frequency: FrequencySource,
        background: bool = True,
        variant: str = "raw",
        statistic: str = "image",
        normalizer: str = "sum",
        post_hoc: bool = False,
        strength: float = 1.0,
        group_strength: Sequence[float] = (),
    ) -> None:
        exponents = tuple(group_strength) or (strength,)
        for exponent in exponents:
            require_at_least(self, 0, strength=exponent)
            if exponent > 1:
                raise ConfigError(f"IIF: strength must be 1 or less, not {exponent!r}")
        if len(exponents) not in (1, len(GROUPS)):
            raise ConfigError(f"IIF: group_strength must be 3 numbers or (), not {group_strength}")
        self.variant, self.statistic, self.normalizer = variant, statistic, normalizer
        self.exponents, self.post_hoc = exponents, post_hoc
        if not post_hoc and any(exponents):
            self.reads = Reads("softmax", f"IIF {self._factor()}")
        super().__init__(frequency, background)

    def init_classifier(self, classifier: nn.Linear) -> None:
        """Detectron2's N(0, .01) becomes N(0, .001): a factor of 4-12 must not start biased.

        First loss on mini_lvis (chance: ln 61 = 4.11): 4.11-4.12, against 4.25-4.29 with N(0, .01)
        (projects/benchmark/first_loss.py). A cosine classifier's weights have no length: they stay.
        """
        if self.background and not self.post_hoc and not hasattr(classifier, "scale"):
            with torch.no_grad():
                classifier.weight.mul_(0.1)

    def derive(self, frequency: ClassFrequency) -> dict[str, np.ndarray]:
        weight = iif_weights(frequency, self.variant, self.statistic, self.normalizer)
        exponent: float | np.ndarray = self.exponents[0]
        if len(self.exponents) > 1:
            own = dict(zip(GROUPS, self.exponents))
            exponent = np.array([own[group] for group in frequency.groups()])
        return {"weight": self._with_background(weight**exponent, 1.0)}

    def _scale_and_shift(self) -> tuple[Tensor, None]:
        return self.weight, None

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        return F.cross_entropy(logits if self.post_hoc else self._adjust(logits), labels)

    def _factor(self) -> str:
        strength = "/".join(f"{exponent:g}" for exponent in self.exponents)
        return f"{self.variant}, {self.statistic}, {self.normalizer}, {strength}"

    def extra_repr(self) -> str:
        return self._factor() + (", post_hoc" if self.post_hoc else "")

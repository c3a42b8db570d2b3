"""Balanced softmax: the class counts inside the softmax, in training only."""

from __future__ import annotations

from ..frequency import FrequencySource
from .base import METHOD_REGISTRY
from .logit_adjustment import LogitAdjustment


@METHOD_REGISTRY.register()
class BalancedSoftmax(LogitAdjustment):
    """CE(softmax(z + ln n_c), y) with the background's logit as it is; test softmax(z).

    Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020.

    Args:
        normalized: False adds ln n_c as published; True adds ln pi_c, as LogitAdjustment does.
            They differ by a constant, which only matters where there is a background.
    """

    def __init__(
        self, frequency: FrequencySource, background: bool = True, normalized: bool = False
    ) -> None:
        super().__init__(frequency, background, tau=1.0, normalized=normalized)

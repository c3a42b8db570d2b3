"""Sigmoid binary cross-entropy: the control of the methods that ask one question a class."""

from __future__ import annotations

from ..frequency import ClassFrequency
from .base import DeferredFrequency
from .binary import BinaryMethod
from .registry import METHOD_REGISTRY


@METHOD_REGISTRY.register()
class Sigmoid(BinaryMethod):
    """sum_ij BCE(sigma(z_ij), [y_i = j]) / R over C logits: Detectron2's USE_SIGMOID_CE."""

    uses_frequency = False

    def __init__(
        self, frequency: ClassFrequency | DeferredFrequency, background: bool = True
    ) -> None:
        super().__init__(len(frequency), background)

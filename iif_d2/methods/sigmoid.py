"""Sigmoid binary cross-entropy: the control of the methods that ask one question a class."""

from __future__ import annotations

from .base import METHOD_REGISTRY
from .binary import BinaryMethod


@METHOD_REGISTRY.register()
class Sigmoid(BinaryMethod):
    """sum_ij BCE(sigma(z_ij), [y_i = j]) / R over C logits: Detectron2's USE_SIGMOID_CE."""

    uses_frequency = False

"""Softmax cross-entropy: the control that every method is compared with."""

from __future__ import annotations

from .base import METHOD_REGISTRY, LongTailMethod


@METHOD_REGISTRY.register()
class Softmax(LongTailMethod):
    """CE(softmax(z), y): Detectron2's own loss and scores, bit for bit."""

    uses_frequency = False

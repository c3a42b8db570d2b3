"""Checkpoints: saving, loading and folding them, and whose class frequencies count."""

from .checkpointer import LongTailCheckpointer
from .fold import fold_checkpoint, plain_config
from .frequencies import settle_frequencies
from .loading import load_trained_model

__all__ = [
    "LongTailCheckpointer",
    "fold_checkpoint",
    "load_trained_model",
    "plain_config",
    "settle_frequencies",
]

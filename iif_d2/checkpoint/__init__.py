"""Checkpoints: saving, loading, folding and converting them, and whose class frequencies count."""

from .checkpointer import LongTailCheckpointer
from .convert import convert_resnet, convert_resnet_file, convert_timm_file
from .fold import fold_checkpoint, plain_config
from .frequencies import model_frequency, settle_frequencies, trained_frequency
from .loading import load_trained_model, load_trained_weights

__all__ = [
    "LongTailCheckpointer",
    "convert_resnet",
    "convert_resnet_file",
    "convert_timm_file",
    "fold_checkpoint",
    "load_trained_model",
    "load_trained_weights",
    "model_frequency",
    "plain_config",
    "settle_frequencies",
    "trained_frequency",
]

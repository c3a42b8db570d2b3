"""Checkpoints: saving, loading, folding and converting them, and whose class frequencies count."""

from .checkpointer import LongTailCheckpointer
from .classes import check_class_names, first_class_names
from .convert import convert_resnet, convert_resnet_file
from .fold import fold_checkpoint, plain_config
from .frequencies import settle_frequencies
from .loading import load_trained_model, load_trained_weights

__all__ = [
    "LongTailCheckpointer",
    "check_class_names",
    "convert_resnet",
    "convert_resnet_file",
    "first_class_names",
    "fold_checkpoint",
    "load_trained_model",
    "load_trained_weights",
    "plain_config",
    "settle_frequencies",
]

"""Checkpoints: saving, loading, folding and converting them, and whose class frequencies count."""

from .checkpointer import LongTailCheckpointer
from .classes import check_class_names, first_class_names, known_class_names
from .convert import convert_resnet, convert_resnet_file, convert_timm_file
from .fold import fold_checkpoint, plain_config
from .frequencies import model_frequency, settle_frequencies, trained_frequency
from .loading import load_trained_model, load_trained_weights

__all__ = [
    "LongTailCheckpointer",
    "check_class_names",
    "convert_resnet",
    "convert_resnet_file",
    "convert_timm_file",
    "first_class_names",
    "fold_checkpoint",
    "known_class_names",
    "load_trained_model",
    "load_trained_weights",
    "model_frequency",
    "plain_config",
    "settle_frequencies",
    "trained_frequency",
]

"""A trained model from a config and its checkpoint."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from ..errors import ConfigError
from .checkpointer import LongTailCheckpointer
from .frequencies import settle_frequencies


def load_trained_model(cfg: CfgNode, resume: bool = False) -> nn.Module:
    """The configured model for evaluation, with MODEL.WEIGHTS or OUTPUT_DIR's last checkpoint.

    Args:
        resume: take OUTPUT_DIR's last checkpoint where there is one.

    Raises:
        ConfigError: no weights are named.
        CheckpointError: they are missing, damaged or do not fit.
    """
    model = build_model(cfg)
    checkpointer = LongTailCheckpointer(model, cfg.OUTPUT_DIR)
    checkpointer.strict_shapes = True
    resume = resume and checkpointer.has_checkpoint()
    weights = checkpointer.get_checkpoint_file() if resume else cfg.MODEL.WEIGHTS
    if not weights:
        raise ConfigError("no trained weights: set MODEL.WEIGHTS, or --resume OUTPUT_DIR's last")
    checkpointer.load(weights, checkpointables=[])
    settle_frequencies(model, training=False, checkpoint=weights)
    return model.eval()

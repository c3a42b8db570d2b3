"""A trained model from a config and its checkpoint."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from ..errors import ConfigError, built_from_config
from ..modeling import warn_without_method
from .checkpointer import LongTailCheckpointer
from .frequencies import settle_frequencies


def load_trained_model(cfg: CfgNode, resume: bool = False) -> nn.Module:
    """The configured model for evaluation, with the weights that MODEL.WEIGHTS names.

    Args:
        resume: take OUTPUT_DIR's last checkpoint instead, if there is one.

    Raises:
        ConfigError: no weights are named.
        CheckpointError: they are missing, damaged or do not fit.
    """
    with built_from_config("the model"):
        model = build_model(cfg)
    warn_without_method(model, cfg)
    return load_trained_weights(model, cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR, resume)


def load_trained_weights(
    model: nn.Module, weights: str, output_dir: str, resume: bool = False
) -> nn.Module:
    """The built model for evaluation, with these weights or, as `resume` says, `output_dir`'s last.

    Raises:
        ConfigError, CheckpointError: see `load_trained_model`.
    """
    checkpointer = LongTailCheckpointer(model, output_dir)
    checkpointer.strict_shapes = True
    if resume and checkpointer.has_checkpoint():
        weights = checkpointer.get_checkpoint_file()
    if not weights:
        raise ConfigError(
            "no trained weights: set MODEL.WEIGHTS (train.init_checkpoint in a .py config), or "
            "--resume OUTPUT_DIR's last"
        )
    checkpointer.load(weights, checkpointables=[])
    settle_frequencies(model, training=False, checkpoint=weights)
    return model.eval()

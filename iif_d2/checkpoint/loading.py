"""A trained model from a config and its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from ..errors import ConfigError, built_from_config
from ..modeling import warn_without_method
from .checkpointer import LongTailCheckpointer
from .classes import saved_class_names
from .frequencies import settle_frequencies


def load_trained_model(cfg: CfgNode, resume: bool = False) -> nn.Module:
    """The configured model for evaluation, with the weights that MODEL.WEIGHTS names.

    Args:
        resume: take OUTPUT_DIR's last checkpoint instead, if there is one.

    Raises:
        ConfigError: no weights are named.
        CheckpointError: they are missing, damaged or do not fit, or were trained on other classes
            than the config's data sets have.
    """
    own = cfg.clone()
    own.defrost()
    own.MODEL.TIMM.PRETRAINED = ""  # the checkpoint has the backbone, too
    with built_from_config("the model"):
        model = build_model(own)
    datasets = (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)
    rest = _load(model, cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR, resume, datasets)
    if "folded" not in rest:  # else the method is in the weights
        warn_without_method(model, cfg)
    return model


def load_trained_weights(
    model: nn.Module,
    weights: str,
    output_dir: str,
    resume: bool = False,
    datasets: Sequence[str] = (),
) -> nn.Module:
    """The built model for evaluation, with these weights or, as `resume` says, `output_dir`'s last.

    Its `class_names` are those of the training data, or None where the checkpoint has none.

    Args:
        datasets: registered data sets whose classes have to be the model's, as far as they are
            known.

    Raises:
        ConfigError, CheckpointError: see `load_trained_model`.
    """
    _load(model, weights, output_dir, resume, datasets)
    return model


def _load(
    model: nn.Module, weights: str, output_dir: str, resume: bool, datasets: Sequence[str]
) -> dict[str, Any]:
    """What the checkpoint has beside the weights."""
    checkpointer = LongTailCheckpointer(model, output_dir)
    checkpointer.strict_shapes = True
    checkpointer.datasets = datasets
    if resume and checkpointer.has_checkpoint():
        weights = checkpointer.get_checkpoint_file()
    if not weights:
        raise ConfigError(
            "no trained weights: set MODEL.WEIGHTS (train.init_checkpoint in a .py config), or "
            "--resume OUTPUT_DIR's last"
        )
    rest = checkpointer.load(weights, checkpointables=[])
    model.class_names = saved_class_names(rest)
    settle_frequencies(model, training=False, checkpoint=weights)
    model.eval()
    return rest

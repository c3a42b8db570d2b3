"""What a checkpoint carries beside weights and class names: its config and its class counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from ..config import carried_config, flat
from ..errors import CheckpointError, ConfigError, DataError, built_from_config
from ..frequency import ClassFrequency

CONFIG, FREQUENCY = "config", "class_frequency"  # keys of a checkpoint
_LAYERS = ("NUM_FC", "NUM_CONV", "NUM_CONVS")  # of config keys that say how many there are
_FEW = 100  # layers, which are built in no time
_LONGEST = 1000  # list in a config: anchors are the products of two


def saved_config(checkpoint: dict[str, Any], path: str, overrides: Sequence[str] = ()) -> CfgNode:
    """The config that a checkpoint carries, for prediction; see `carried_config`.

    Args:
        checkpoint: its content.
        path: where it is, for messages.
        overrides: KEY VALUE pairs of the user's own.

    Raises:
        CheckpointError: it carries none, or one that cannot be used.
    """
    text = checkpoint.get(CONFIG)
    if text is None:
        raise CheckpointError(
            f"checkpoint {path} carries no config (a .py config is code and stays behind, and "
            f"version 0.1.0 saved none); give the one it was trained with: --config-file FILE, "
            f"config_file= in Python"
        )
    where = f"the config in checkpoint {path}"
    if not isinstance(text, str):
        raise CheckpointError(
            f"{where} is a {type(text).__name__}, not a text; give one by --config-file FILE"
        )
    try:
        return carried_config(text, where, overrides)
    except ConfigError as error:
        raise CheckpointError(f"{error}; or give another by --config-file FILE") from None


def saved_frequency(checkpoint: dict[str, Any], path: str) -> ClassFrequency | None:
    """The class counts that a checkpoint carries beside its weights; None where there are none.

    Raises:
        CheckpointError: they are damaged.
    """
    text = checkpoint.get(FREQUENCY)
    if not isinstance(text, str):
        return None
    try:
        return ClassFrequency.from_json(text, f"the class counts in checkpoint {path}")
    except DataError as error:
        raise CheckpointError(str(error)) from None


def check_size(cfg: CfgNode, checkpoint: dict[str, Any], path: str) -> None:
    """See that the model of a checkpoint's own config is no larger than the checkpoint.

    It is built without numbers: one sentence of a config could ask for more memory than there is.

    Raises:
        CheckpointError: it is larger, or cannot be built.
    """
    weights = checkpoint["model"]
    most = max(len(weights), _FEW)
    remedy = "package or save the model again, or give its config by --config-file FILE"
    for key, value in flat(cfg):
        long = isinstance(value, (list, tuple)) and len(value) > _LONGEST
        if long or (key.endswith(_LAYERS) and value > most):
            raise CheckpointError(
                f"the config in checkpoint {path}: {key} is for more layers than there are weights "
                f"for; {remedy}"
            )
    own = cfg.clone()
    own.defrost()
    own.MODEL.DEVICE = "meta"
    try:
        with built_from_config("the model"), torch.device("meta"):
            model = build_model(own)
    except ConfigError as error:
        if isinstance(error.__cause__, NotImplementedError):
            return  # a user's own part computes while it is built
        raise CheckpointError(f"the config in checkpoint {path}: {error}; {remedy}") from error
    needed = sum(parameter.numel() for parameter in model.parameters())
    there = sum(torch.as_tensor(value).numel() for value in weights.values())
    if needed > there:
        raise CheckpointError(
            f"checkpoint {path} has {there:,} numbers, and the model of its config {needed:,}; "
            f"{remedy}"
        )

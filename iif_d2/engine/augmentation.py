"""Test-time augmentation, TEST.AUG: Detectron2's, which merges what it finds in several sizes."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNNWithTTA
from torch import nn

from ..errors import ConfigError, built_from_config
from ..evaluation import rle_masks


def with_augmentation(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """The model with TEST.AUG's sizes and flips, its weights shared; in the model's mode.

    Raises:
        ConfigError: it cannot be done with this model: keypoints, another architecture than
            GeneralizedRCNN, another mask threshold than 0.5.
    """
    if not cfg.TEST.AUG.MIN_SIZES:
        raise ConfigError(
            "TEST.AUG.MIN_SIZES is empty; name the sizes, or set TEST.AUG.ENABLED to False"
        )
    with built_from_config("test-time augmentation (TEST.AUG.ENABLED)"):
        augmented = GeneralizedRCNNWithTTA(cfg, model)
    if cfg.MODEL.MASK_ON:
        # It refuses a threshold that the model's own pasting has not.
        rle_masks(augmented, cfg.MODEL.ROI_MASK_HEAD.THRESH_TEST)
    return augmented.train(model.training)

"""Detectron2's three kinds of ROI heads, with the long-tail box predictor.

The predictor that Detectron2 built is converted, not built again: the random numbers drawn for it
stay those of Detectron2, so the same seed starts the same model.
"""

from __future__ import annotations

import logging

from detectron2.config import CfgNode
from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    CascadeROIHeads,
    Res5ROIHeads,
    StandardROIHeads,
)
from torch import nn

from ..methods import LongTailMethod
from ..ops.exact_topk import with_exact_topk
from .predictor import LongTailOutputLayers, attach_method

logger = logging.getLogger(__name__)


@ROI_HEADS_REGISTRY.register()
class LongTailROIHeads(StandardROIHeads):
    """`StandardROIHeads` (FPN, C5) with MODEL.LONG_TAIL's method."""

    @classmethod
    def _init_box_head(cls, cfg, input_shape):
        ret = super()._init_box_head(cfg, input_shape)
        attach_method(ret["box_predictor"], **LongTailOutputLayers.long_tail_config(cfg))
        return ret


@ROI_HEADS_REGISTRY.register()
class LongTailRes5ROIHeads(Res5ROIHeads):
    """`Res5ROIHeads` (C4) with MODEL.LONG_TAIL's method."""

    @classmethod
    def from_config(cls, cfg, input_shape):
        ret = super().from_config(cfg, input_shape)
        attach_method(ret["box_predictor"], **LongTailOutputLayers.long_tail_config(cfg))
        return ret


@ROI_HEADS_REGISTRY.register()
class LongTailCascadeROIHeads(CascadeROIHeads):
    """`CascadeROIHeads` with MODEL.LONG_TAIL's method in every stage.

    The stages' probabilities are averaged, as Detectron2 does; the authors' framework averages
    logits.
    """

    _forward_box = with_exact_topk(CascadeROIHeads._forward_box)

    @classmethod
    def _init_box_head(cls, cfg, input_shape):
        ret = super()._init_box_head(cfg, input_shape)
        for predictor in ret["box_predictors"]:
            attach_method(predictor, **LongTailOutputLayers.long_tail_config(cfg))
        return ret


def warn_without_method(model: nn.Module, cfg: CfgNode) -> None:
    """Say it where MODEL.LONG_TAIL names a method and the model that was built has none."""
    method = cfg.MODEL.LONG_TAIL.METHOD
    if method != "Softmax" and not any(isinstance(m, LongTailMethod) for m in model.modules()):
        logger.warning(
            "MODEL.LONG_TAIL.METHOD is %s, but this model is plain Detectron2: its "
            "MODEL.ROI_HEADS.NAME, %s, takes no method. Name LongTailROIHeads, "
            "LongTailRes5ROIHeads or LongTailCascadeROIHeads",
            method, cfg.MODEL.ROI_HEADS.NAME,
        )  # fmt: skip

"""Detectron2's three kinds of ROI heads, with the long-tail box predictor and one class's masks.

`box_stages` is what comes between features and detections: what each stage's predictor gives,
logits (R, C + 1 or what the method needs) and deltas (R, 4) or (R, 4C), and the last stage's
proposals. R and C as in `predictor`.
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
from detectron2.structures import Instances
from torch import Tensor, nn

from ..methods import LongTailMethod
from ..ops.exact_topk import exact_topk_inference_batch
from .class_specific import apply_class_specific
from .predictor import LongTailOutputLayers

logger = logging.getLogger(__name__)

Stages = tuple[list[tuple[Tensor, Tensor]], list[Instances]]


@ROI_HEADS_REGISTRY.register()
class LongTailROIHeads(StandardROIHeads):
    """`StandardROIHeads` (FPN, C5) with MODEL.LONG_TAIL's method."""

    @classmethod
    def _init_box_head(cls, cfg, input_shape):
        ret = super()._init_box_head(cfg, input_shape)
        ret["box_predictor"] = LongTailOutputLayers.in_place_of(ret["box_predictor"], cfg)
        return ret

    @classmethod
    def _init_mask_head(cls, cfg, input_shape):
        return _with_class_specific_masks(super()._init_mask_head(cfg, input_shape))

    def box_stages(self, features: dict[str, Tensor], proposals: list[Instances]) -> Stages:
        boxes = [p.proposal_boxes for p in proposals]
        pooled = self.box_pooler([features[f] for f in self.box_in_features], boxes)
        return [self.box_predictor(self.box_head(pooled))], proposals


@ROI_HEADS_REGISTRY.register()
class LongTailRes5ROIHeads(Res5ROIHeads):
    """`Res5ROIHeads` (C4) with MODEL.LONG_TAIL's method."""

    @classmethod
    def from_config(cls, cfg, input_shape):
        ret = super().from_config(cfg, input_shape)
        ret["box_predictor"] = LongTailOutputLayers.in_place_of(ret["box_predictor"], cfg)
        return _with_class_specific_masks(ret)

    def box_stages(self, features: dict[str, Tensor], proposals: list[Instances]) -> Stages:
        boxes = [p.proposal_boxes for p in proposals]
        pooled = self._shared_roi_transform([features[f] for f in self.in_features], boxes)
        return [self.box_predictor(pooled.mean(dim=[2, 3]))], proposals


@ROI_HEADS_REGISTRY.register()
class LongTailCascadeROIHeads(CascadeROIHeads):
    """`CascadeROIHeads` with MODEL.LONG_TAIL's method in every stage.

    The stages' probabilities are averaged, as Detectron2 does; the authors' framework averages
    logits.
    """

    @classmethod
    def _init_box_head(cls, cfg, input_shape):
        ret = super()._init_box_head(cfg, input_shape)
        ret["box_predictors"] = [
            LongTailOutputLayers.in_place_of(plain, cfg) for plain in ret["box_predictors"]
        ]
        return ret

    @classmethod
    def _init_mask_head(cls, cfg, input_shape):
        return _with_class_specific_masks(super()._init_mask_head(cfg, input_shape))

    def box_stages(self, features: dict[str, Tensor], proposals: list[Instances]) -> Stages:
        features = [features[f] for f in self.box_in_features]
        sizes = [p.image_size for p in proposals]
        stages = []
        for stage in range(self.num_cascade_stages):
            if stage > 0:
                boxes = self.box_predictor[stage - 1].predict_boxes(stages[-1], proposals)
                proposals = self._create_proposals_from_boxes(boxes, sizes)
            stages.append(self._run_stage(features, proposals, stage))
        return stages, proposals

    def _forward_box(self, features, proposals, targets=None):
        if self.training:
            return super()._forward_box(features, proposals, targets)
        stages, proposals = self.box_stages(features, proposals)
        of_stages = [
            predictor.predict_probs(predictions, proposals)
            for predictor, predictions in zip(self.box_predictor, stages)
        ]
        last = self.box_predictor[-1]
        detections, _ = exact_topk_inference_batch(
            last.predict_boxes(stages[-1], proposals),
            [sum(of_image) * (1.0 / len(stages)) for of_image in zip(*of_stages)],
            [p.image_size for p in proposals],
            last.test_score_thresh,
            last.test_nms_thresh,
            last.test_topk_per_image,
        )
        return detections


def _with_class_specific_masks(parts: dict) -> dict:
    if parts.get("mask_head") is not None:
        apply_class_specific(parts["mask_head"])
    return parts


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

"""What goes into a Detectron2 model: backbones, ROI heads, predictors, exact inference."""

from ..ops.exact_topk import exact_topk_inference, exact_topk_inference_batch
from .class_specific import (
    ClassSpecificMaskHead,
    ClassSpecificMasks,
    ClassSpecificOutputLayers,
    apply_class_specific,
)
from .cosine import CosineLinear
from .dense import LongTailDenseHeadMixin
from .mask_head import NormedConv2d, NormedMaskHead
from .predictor import LongTailOutputLayers, LongTailPredictorMixin, apply_method
from .roi_heads import (
    LongTailCascadeROIHeads,
    LongTailRes5ROIHeads,
    LongTailROIHeads,
    warn_without_method,
)
from .timm_backbone import TimmBackbone

__all__ = [
    "ClassSpecificMaskHead",
    "ClassSpecificMasks",
    "ClassSpecificOutputLayers",
    "CosineLinear",
    "LongTailCascadeROIHeads",
    "LongTailDenseHeadMixin",
    "LongTailOutputLayers",
    "LongTailPredictorMixin",
    "LongTailROIHeads",
    "LongTailRes5ROIHeads",
    "NormedConv2d",
    "NormedMaskHead",
    "TimmBackbone",
    "apply_class_specific",
    "apply_method",
    "exact_topk_inference",
    "exact_topk_inference_batch",
    "warn_without_method",
]

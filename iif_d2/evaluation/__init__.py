"""LVIS and COCO evaluation, streamed and equal to the reference implementations."""

from .lvis_evaluation import LongTailEvaluator
from .rle_inference import rle_masks

__all__ = ["LongTailEvaluator", "rle_masks"]

"""LVIS and COCO evaluation, streamed and equal to the reference implementations."""

from .lvis_evaluation import LongTailEvaluator, dataset_ground_truth
from .rle_inference import rle_masks

__all__ = ["LongTailEvaluator", "dataset_ground_truth", "rle_masks"]

"""LVIS and COCO evaluation, streamed and equal to the reference implementations."""

from .detections import Detections
from .lvis_evaluation import LongTailEvaluator, dataset_ground_truth
from .metrics import METRICS
from .rle_inference import rle_masks

__all__ = ["METRICS", "Detections", "LongTailEvaluator", "dataset_ground_truth", "rle_masks"]

"""LVIS and COCO evaluation, streamed and equal to the reference implementations."""

from .lvis_evaluation import LongTailEvaluator

__all__ = ["LongTailEvaluator"]

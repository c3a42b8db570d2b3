"""Labelled images of a long-tailed set: sources, cuts, splits, augmentation, batches."""

from .build import Splits, build_evaluation, build_loader, build_splits, build_test
from .images import LabelledImages
from .profiles import cut_profile, profile_counts

__all__ = [
    "LabelledImages",
    "Splits",
    "build_evaluation",
    "build_loader",
    "build_splits",
    "build_test",
    "cut_profile",
    "profile_counts",
]

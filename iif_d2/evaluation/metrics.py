"""The metrics of an evaluation: what they are called, in which order, and how they are computed."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
from detectron2.utils.logger import log_first_n

from ..errors import DataError
from ..frequency import GROUPS, ClassFrequency, class_name_mismatch, stated_groups
from .ground_truth import GroundTruth


class Metric(NamedTuple):
    """The mean of a part of the precisions that `Matcher.precision` gives.

    Attributes:
        iou: of the thresholds 0.5, 0.55, ..., 0.95.
        size: of the objects: 0 all, 1 small, 2 medium, 3 large (COCO's 32² and 96² pixels).
        group: a letter of GROUPS, whose classes alone count; None: all classes.
    """

    iou: int | slice = slice(None)
    size: int = 0
    group: str | None = None


METRICS = {
    "AP": Metric(),
    "AP50": Metric(iou=0),
    "AP75": Metric(iou=5),
    "APs": Metric(size=1),
    "APm": Metric(size=2),
    "APl": Metric(size=3),
    **{f"AP{letter}": Metric(group=letter) for letter in GROUPS},
}
# The same with the best of each class over the data set; see `ap_fixed`.
FIXED_METRICS = {"APfixed": "AP", **{f"APfixed-{letter}": f"AP{letter}" for letter in GROUPS}}


def lvis_metrics(precision: np.ndarray, groups: np.ndarray | None) -> dict[str, float]:
    """METRICS in percent; without groups, those of groups are left out.

    nan where there is nothing to find: no object of the size, no class of the group.

    Args:
        precision: see `Matcher.precision`.
        groups: (C,) of "r", "c", "f".
    """
    # The same sums in the same order as lvis-api, so that the last bit agrees too.
    metrics = {}
    for name, metric in METRICS.items():
        part = precision[metric.iou, ..., metric.size]
        if metric.group:
            if groups is None:
                continue
            part = part[..., np.flatnonzero(groups == metric.group)]
        metrics[name] = mean_percent(part)
    return metrics


def mean_percent(precision: np.ndarray) -> float:
    """The mean in percent of what can be computed, nan if nothing; -1 marks what cannot."""
    computed = precision[precision > -1]
    return float(np.mean(computed) * 100) if computed.size else float("nan")


def class_groups(truth: GroundTruth, frequency: ClassFrequency | None) -> np.ndarray | None:
    """(C,) of "r", "c", "f": what the json states, as LVIS's does in every file, else the groups of
    the training frequencies; None without either. Where the two differ, a warning says so."""
    stated = stated_groups([category.frequency for category in truth.categories])
    if stated is None:
        return None if frequency is None else frequency.groups()
    if frequency is not None and frequency.class_groups is not None:
        differ = np.flatnonzero(stated != frequency.class_groups)
        if len(differ):
            first, trained = truth.categories[differ[0]], str(frequency.class_groups[differ[0]])
            log_first_n(
                logging.WARNING,
                f"{truth.path} states in 'frequency' other groups than training has for "
                f"{len(differ)} of {len(stated)} classes (first: {first.name!r}, "
                f"{first.frequency!r} against {trained!r}); AP is of "
                f"this file's. Give the training json the same 'frequency', or take it out here",
                key="message",
            )
    return stated


def check_classes(truth: GroundTruth, frequency: ClassFrequency) -> None:
    """Raise `DataError` unless the frequencies are of the json's classes, in its order."""
    names = [category.name for category in truth.categories]
    mismatch = class_name_mismatch(names, frequency.class_names)
    if mismatch:
        raise DataError(
            f"{truth.path} and the class frequencies are of other classes: {mismatch}; count the "
            f"frequencies on this data set's training set"
        )

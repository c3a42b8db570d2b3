"""The numbers of an evaluation, from precision to LVIS's metrics and a per-class table."""

from __future__ import annotations

import numpy as np

from ..errors import DataError
from ..files import csv_text
from ..frequency import ClassFrequency, class_name_mismatch
from .ground_truth import GroundTruth

GROUPS = ("r", "c", "f")


def class_groups(truth: GroundTruth, frequency: ClassFrequency | None) -> np.ndarray | None:
    """(C,) of "r", "c", "f": what the json states, else by training images; None without either."""
    stated = [category.frequency for category in truth.categories]
    if all(group in GROUPS for group in stated):
        return np.array(stated)
    return None if frequency is None else frequency.groups()


def training_images(truth: GroundTruth, frequency: ClassFrequency | None) -> list[int | None]:
    """Training images of each class: counted ones, else those that LVIS states in the json."""
    if frequency is not None:
        return frequency.image_count.tolist()
    return [category.image_count for category in truth.categories]


def check_classes(truth: GroundTruth, frequency: ClassFrequency) -> None:
    """Raise `DataError` unless the frequencies are of the json's classes, in its order."""
    names = [category.name for category in truth.categories]
    mismatch = class_name_mismatch(names, frequency.class_names)
    if mismatch:
        raise DataError(
            f"{truth.path} and the class frequencies are of other classes: {mismatch}; count the "
            f"frequencies on this data set's training set"
        )


def lvis_metrics(precision: np.ndarray, groups: np.ndarray | None) -> dict[str, float]:
    """AP, AP50, AP75, APs, APm, APl and, with groups, APr, APc, APf, in percent.

    nan where there is nothing to find: no object of the size, no class of the group.
    """
    # The same sums in the same order as lvis-api, so that the last bit agrees too.
    whole = precision[..., 0]
    metrics = {"AP": _mean(whole), "AP50": _mean(whole[0]), "AP75": _mean(whole[5])}
    for size, letter in enumerate("sml", start=1):
        metrics[f"AP{letter}"] = _mean(precision[..., size])
    return {**metrics, **group_metrics(precision, groups, "AP")}


def group_metrics(
    precision: np.ndarray, groups: np.ndarray | None, prefix: str
) -> dict[str, float]:
    """`prefix` r, c and f: AP over the classes of each group in percent; empty without groups."""
    if groups is None:
        return {}
    return {
        f"{prefix}{group}": _mean(precision[:, :, np.flatnonzero(groups == group), 0])
        for group in GROUPS
    }


def per_class_csv(
    truth: GroundTruth,
    groups: np.ndarray | None,
    images: list[int | None],
    precision: np.ndarray,
    objects: np.ndarray,
) -> str:
    """A line a class; AP and AP50 in percent, nan without objects to find."""
    rows: list[list] = [
        ["class", "category_id", "group", "training_images", "AP", "AP50", "ground_truths"]
    ]
    for number, category in enumerate(truth.categories):
        whole = precision[:, :, number, 0]
        rows.append(
            [
                category.name,
                category.id,
                "" if groups is None else groups[number],
                "" if images[number] is None else images[number],
                f"{_mean(whole):.6f}",
                f"{_mean(whole[0]):.6f}",
                objects[number],
            ]
        )
    return csv_text(rows)


def _mean(precision: np.ndarray) -> float:
    """Percent; -1 marks what cannot be computed."""
    computed = precision[precision > -1]
    return float(np.mean(computed) * 100) if computed.size else float("nan")

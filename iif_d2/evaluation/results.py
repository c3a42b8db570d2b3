"""The results of an evaluation as files: a json, a table to read, and a csv of each class."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from ..annotations.decoding import decode_json
from ..errors import DataError
from ..files import csv_text, write_atomically
from ..frequency import ClassFrequency
from .ground_truth import GroundTruth
from .metrics import METRICS, mean_percent

Results = Mapping[str, Mapping[str, Mapping[str, float]]]  # data set, then task, then metric


def save_results(path: str | os.PathLike, results: Results) -> None:
    """Write {data set: {"bbox": {"AP": ...}}} as json; what is nan becomes null."""
    finite = _each(results, lambda value: value if math.isfinite(value) else None)
    write_atomically(path, msgspec.json.format(msgspec.json.encode(finite), indent=1))


def load_results(path: str | os.PathLike) -> Results:
    """Read what `save_results` wrote; null becomes nan.

    Raises:
        DataError: the file is missing or something else.
    """
    content = decode_json(path, dict[str, dict[str, dict[str, float | None]]], "a results file")
    return _each(content, lambda value: math.nan if value is None else value)


def _each(results: Mapping, change: Callable) -> dict:
    """The same with every number changed."""
    return {
        name: {task: {key: change(row[key]) for key in row} for task, row in tasks.items()}
        for name, tasks in results.items()
    }


def results_table(results: Results) -> str:
    """Markdown, a row for each data set and task, in percent; "-" where there is no number."""
    head = ("data set", "task", *METRICS)
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, tasks in results.items():
        for task, row in tasks.items():
            values = (row.get(metric, math.nan) for metric in METRICS)
            cells = ("-" if math.isnan(value) else f"{value:.1f}" for value in values)
            lines.append(f"| {name} | {task} | {' | '.join(cells)} |")
    return "\n".join(lines)


def save_class_ap(
    path: str,
    truth: GroundTruth,
    frequency: ClassFrequency | None,
    groups: np.ndarray | None,
    precision: np.ndarray,
    objects: np.ndarray,
) -> None:
    """Write a csv with a line a class; AP and AP50 in percent, nan without objects to find.

    Args:
        frequency: whose training images are written; by default those that LVIS's json states.
        groups: (C,) of "r", "c", "f", or None.
        precision: see `Matcher.precision`.
        objects: (C,), how many there are to find.
    """
    rows: list[list] = [
        ["class", "category_id", "group", "training_images", "AP", "AP50", "ground_truths"]
    ]
    for number, category in enumerate(truth.categories):
        images = category.image_count if frequency is None else frequency.image_count[number]
        whole = precision[:, :, number, 0]
        rows.append(
            [
                category.name,
                category.id,
                "" if groups is None else groups[number],
                "" if images is None else images,
                f"{mean_percent(whole):.6f}",
                f"{mean_percent(whole[0]):.6f}",
                objects[number],
            ]
        )
    write_atomically(path, csv_text(rows))


def load_class_ap(path: str, num_classes: int) -> np.ndarray:
    """(C,) AP in percent of what `save_class_ap` wrote.

    Raises:
        DataError: the file is something else, or of another number of classes.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            values = [float(row["AP"]) for row in csv.DictReader(file)]
    except (ValueError, KeyError, TypeError, csv.Error):
        raise DataError(f"{path} has no AP of each class; evaluate again") from None
    if len(values) != num_classes:
        raise DataError(f"{path} has {len(values)} classes, not {num_classes}")
    return np.array(values)

"""Counting an annotation json or dataset dicts; `data.frequency` says what a name means."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import DataError
from ..frequency import ClassFrequency
from ..groups import stated_groups

logger = logging.getLogger(__name__)


def count_json(path: str, cache_dir: str | None) -> ClassFrequency:
    """The counts of an annotation file of any format; kept in `cache_dir` until the file changes.

    Raises:
        DataError: it cannot be read.
    """
    if cache_dir is None:
        return _count_labels(path)
    from ..annotations.sources import source_digest
    from ..files import cached

    key = source_digest(path)
    return cached(
        os.path.join(cache_dir, f"class_counts_{key}.json"),
        compute=lambda: _count_labels(path),
        load=ClassFrequency.load,
    )


def _count_labels(path: str) -> ClassFrequency:
    from ..annotations.reading import crowds_doubt, read_labels

    labels = read_labels(path)
    names = [category.name for category in labels.categories]
    doubt = crowds_doubt(labels.categories, labels.classes, labels.crowds)
    if doubt:
        logger.warning("%s: %s", path, doubt)
    frequency = count_pairs(names, *labels[1:])
    groups = stated_groups([category.frequency for category in labels.categories])
    frequency = dataclasses.replace(frequency, class_groups=groups)
    _compare_with_stated(path, labels.categories, frequency)
    return frequency


def count_pairs(
    names: Sequence[str],
    images: np.ndarray,
    classes: np.ndarray,
    crowds: np.ndarray,
    num_images: int,
) -> ClassFrequency:
    """The counts of M objects; a class of crowds alone, from which nothing is learnt, counts as
    unseen.

    Args:
        images, classes, crowds: int64, int64 and bool (M,).
    """
    from ..annotations.columns import crowds_only

    unseen = crowds_only(classes, crowds, len(names))
    if unseen.any():
        learnt = ~unseen[classes]
        images, classes = images[learnt], classes[learnt]
    return ClassFrequency.from_pairs(names, images, classes, num_images)


def count_dicts(dicts: Iterable[dict], class_names: Sequence[str] | None) -> ClassFrequency:
    """The counts of Detectron2's dataset dicts; without names a class is called by its number.

    Raises:
        DataError: a class that has no name.
    """
    images, classes, crowds, num_images = [], [], [], 0
    for record in dicts:
        for annotation in record.get("annotations", ()):
            images.append(num_images)
            classes.append(annotation["category_id"])
            crowds.append(bool(annotation.get("iscrowd", 0)))
        num_images += 1
    classes = np.asarray(classes, dtype=np.int64)
    if class_names is None:
        class_names = [str(index) for index in range(classes.max(initial=-1) + 1)]
    outside = classes[(classes < 0) | (classes >= len(class_names))]
    if len(outside):
        raise DataError(
            f"dataset dicts have category_id {outside[0]}, but there are {len(class_names)} "
            f"classes; category_id is contiguous and starts at 0 in Detectron2's format"
        )
    images = np.asarray(images, dtype=np.int64)
    return count_pairs(class_names, images, classes, np.asarray(crowds, dtype=bool), num_images)


def _compare_with_stated(path: str, categories: list[Any], frequency: ClassFrequency) -> None:
    """LVIS states counts in its categories: those of the training set, in val's file too."""
    stated = [
        (category.image_count, category.instance_count)
        for category in categories
        if category.image_count is not None and category.instance_count is not None
    ]
    counted = list(zip(frequency.image_count.tolist(), frequency.instance_count.tolist()))
    if len(stated) == len(counted) and stated != counted:
        differ = [i for i, pair in enumerate(stated) if pair != counted[i]]
        logger.warning(
            "%s: the counts that 'categories' states are not those of its annotations for %d of %d "
            "classes (first: %r, stated %d images and %d instances, found %d and %d). "
            "The annotations are used.",
            path, len(differ), len(counted), frequency.labels[differ[0]],
            *stated[differ[0]], *counted[differ[0]],
        )  # fmt: skip

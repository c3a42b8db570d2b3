"""The labels of an annotation file as columns, in little memory and Python.

A record is never looked at by Python: msgspec decodes some megabytes of them at a time and numpy
takes the columns. Where the file is not the usual kind (ids that are text, a defect), there are no
columns, and `annotations.read_labels` reads it whole and finds the words for what is wrong.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from operator import attrgetter
from typing import BinaryIO, NamedTuple

import numpy as np

from .decoding import paused_gc, read_labels
from .json_parts import list_parts, opening, rest_of_file

_KNOWN_IDS = (-(1 << 62) + 1, -(1 << 62) + 2)
_KNOWN = b'{"image_id":%d,"category_id":%d}' % _KNOWN_IDS


class LabelPlaces(NamedTuple):
    """Image and class of N annotations, int64 (N,) each, as places among them.

    Attributes:
        categories: in the order of their ids.
        num_images: images in the file.
    """

    images: np.ndarray
    classes: np.ndarray
    categories: list
    num_images: int


def read_places(path: str) -> LabelPlaces:
    """The labels of an LVIS or COCO json.

    Raises:
        DataError: as `read_labels`.
    """
    columns = label_columns(path)
    places = None if columns is None else _places(columns)
    return places_by_record(path) if places is None else places


def places_by_record(path: str) -> LabelPlaces:
    """The same record by record, for ids that are text and for the words to an error."""
    labels = read_labels(path)
    categories = sorted(labels.categories, key=lambda category: category.id)
    class_index = {category.id: index for index, category in enumerate(categories)}
    image_index = {image.id: index for index, image in enumerate(labels.images)}
    size = len(labels.annotations)
    classes = np.fromiter((class_index[a.category_id] for a in labels.annotations), np.int64, size)
    images = np.fromiter((image_index[a.image_id] for a in labels.annotations), np.int64, size)
    return LabelPlaces(images, classes, categories, len(labels.images))


def _places(columns: LabelColumns) -> LabelPlaces | None:
    """None where a reference, an id or a name is not sound."""
    categories = sorted(columns.categories, key=lambda category: category.id)
    classes = _found([category.id for category in categories], columns.category_ids)
    images = _found(columns.images, columns.image_ids)
    if classes is None or images is None or not all(c.name.strip() for c in categories):
        return None
    return LabelPlaces(images, classes, categories, len(columns.images))


def _found(known: Sequence[int], asked: np.ndarray) -> np.ndarray | None:
    """(N,) of each asked id its place among the known ones in their order.

    None where an id is unknown, or one that is known is there twice.
    """
    ordered = np.sort(np.asarray(known, dtype=np.int64))
    if not len(ordered) or (ordered[1:] == ordered[:-1]).any():
        return None
    first, last = int(ordered[0]), int(ordered[-1])
    if not (first <= asked.min() and asked.max() <= last):
        return None
    if last - first < 16 * len(ordered) + len(asked):  # a table takes little and is faster
        table = np.full(last - first + 1, -1, dtype=np.int64)
        table[ordered - first] = np.arange(len(ordered))
        place = table[asked - first]
        return None if (place < 0).any() else place
    place = np.searchsorted(ordered, asked)
    return None if (ordered[place] != asked).any() else place


class LabelColumns(NamedTuple):
    """The ids of N annotations, int64 (N,) each and N > 0, and the file's images and categories."""

    image_ids: np.ndarray
    category_ids: np.ndarray
    images: np.ndarray  # int64, their ids
    categories: list


def label_columns(path: str) -> LabelColumns | None:
    """The labels of an LVIS or COCO json; None where `read_labels` has to read it.

    References are not checked.
    """
    import msgspec

    try:
        if not os.path.isfile(path):
            return None
        with open(path, "rb", buffering=0) as file, paused_gc():
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _columns(file, content)
    except (OSError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return None


def _columns(file: BinaryIO, content: mmap.mmap) -> LabelColumns | None:
    import msgspec

    from .schema import Label, LabelFile

    start = opening(content)
    if start is None:
        return None
    image_ids, category_ids = [], []
    for part in list_parts(file, start, Label[int]):
        image_ids.append(_column(part.records, "image_id"))
        category_ids.append(_column(part.records, "category_id"))
    rest = rest_of_file(content, start, part.end, _KNOWN)
    found = msgspec.json.decode(rest, type=LabelFile[int])
    if [(label.image_id, label.category_id) for label in found.annotations] != [_KNOWN_IDS]:
        return None
    columns = map(np.concatenate, (image_ids, category_ids))
    return LabelColumns(*columns, _column(found.images, "id"), found.categories)


def _column(records: list, field: str) -> np.ndarray:
    return np.fromiter(map(attrgetter(field), records), np.int64, len(records))

"""The labels of an annotation file as columns, in little memory and Python.

A record is never looked at by Python: msgspec decodes some megabytes of them at a time and numpy
takes the columns. Where the file is not the usual kind (ids that are text, a defect), there are no
columns, and `annotations.read_labels` reads it whole and finds the words for what is wrong.

Why a part of the list is decoded right: a part begins where a record does and ends before a comma.
If it decodes as whole records, then that comma stands between two records, since what is open at a
place of a json text follows from what is before it. The rest of the file is decoded with one known
record in place of the list, which must come out as the list of the whole file.
"""

from __future__ import annotations

import itertools
import mmap
import os
import re
from operator import attrgetter
from typing import BinaryIO, Callable, Iterator, NamedTuple, Optional, Sequence

import numpy as np

from .annotations import paused_gc, read_labels

_PART = 2 << 20  # bytes decoded at a time
_LIST = re.compile(rb'"annotations"\s*:\s*\[\s*(?=\{)')
_BETWEEN = re.compile(rb"\}\s*,\s*(?=\{)")
_LAST = re.compile(rb"\}\s*(?=\])")
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


def _places(columns: LabelColumns) -> Optional[LabelPlaces]:
    """None where a reference, an id or a name is not sound."""
    categories = sorted(columns.categories, key=lambda category: category.id)
    classes = _found([category.id for category in categories], columns.category_ids)
    images = _found(columns.images, columns.image_ids)
    if classes is None or images is None or not all(c.name.strip() for c in categories):
        return None
    return LabelPlaces(images, classes, categories, len(columns.images))


def _found(known: Sequence[int], asked: np.ndarray) -> Optional[np.ndarray]:
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


def label_columns(path: str) -> Optional[LabelColumns]:
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


def _columns(file: BinaryIO, content: mmap.mmap) -> Optional[LabelColumns]:
    import msgspec

    from .schema import LabelFile

    opening = _LIST.search(content)
    if opening is None:
        return None
    *columns, ends = zip(*_parts(file, opening.end()))
    start = 3 if content[:3] == b"\xef\xbb\xbf" else 0
    rest = content[start : opening.end()] + _KNOWN + content[ends[-1] :]
    found = msgspec.json.decode(rest, type=LabelFile[int])
    if [(label.image_id, label.category_id) for label in found.annotations] != [_KNOWN_IDS]:
        return None
    image_ids, category_ids = (np.concatenate(column) for column in columns)
    return LabelColumns(image_ids, category_ids, _column(found.images, "id"), found.categories)


def _parts(file: BinaryIO, start: int) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Ids of images and of categories, and where their records end, until the list does.

    Raises:
        msgspec.MsgspecError: the list is of other things, or cut short.
    """
    import msgspec

    from .schema import Label

    decode = msgspec.json.Decoder(list[Label[int]]).decode
    size, going_on = _PART, True
    while going_on:
        # Read over and over into the same memory, which stays in a processor's cache.
        buffer = bytearray(size + 2)
        while going_on and size == len(buffer) - 2:
            file.seek(start)
            filled = 1 + file.readinto(memoryview(buffer)[1:-1])
            cut = _last_cut(buffer, filled)
            if cut is None and filled == size + 1:
                size *= 2  # a record as long as a part
                continue
            try:
                if cut is None:
                    raise msgspec.DecodeError("no comma between records")
                records, end = _decoded(decode, buffer, cut.start() + 1), cut.start() + 1
            except msgspec.MsgspecError:
                # The list may end in this part.
                records, end = _closed(decode, buffer, filled)
                going_on = False
            yield _column(records, "image_id"), _column(records, "category_id"), start + end - 1
            if going_on:
                start += cut.end() - 1


def _last_cut(buffer: bytearray, filled: int) -> Optional[re.Match]:
    """The last comma between records; None if there is none."""
    reach = 1 << 12
    while True:
        found = list(_BETWEEN.finditer(buffer, max(1, filled - reach), filled))
        if found or reach >= filled:
            return found[-1] if found else None
        reach *= 8


def _closed(decode: Callable, buffer: bytearray, filled: int) -> tuple[list, int]:
    """The records to the end of the list, and where that is."""
    import msgspec

    error = msgspec.DecodeError("the list does not end")
    # A bracket after a brace that is not the list's end is rare.
    for last in itertools.islice(_LAST.finditer(bytes(buffer), 1, filled), 8):
        try:
            return _decoded(decode, buffer, last.start() + 1), last.start() + 1
        except msgspec.MsgspecError as failed:
            error = failed
    raise error


def _decoded(decode: Callable, buffer: bytearray, end: int) -> list:
    """The records in buffer[1:end] as a list."""
    following = buffer[end]
    buffer[0], buffer[end] = b"[]"
    try:
        with memoryview(buffer) as view, view[: end + 1] as text:
            return decode(text)
    finally:
        buffer[end] = following


def _column(records: list, field: str) -> np.ndarray:
    return np.fromiter(map(attrgetter(field), records), np.int64, len(records))

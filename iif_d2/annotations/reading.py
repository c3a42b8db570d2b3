"""Reading an LVIS or COCO json to keep its text, checked whole.

A million annotations as Python objects take seven times the memory of their text and most of the
time of reading. What a file has to be refused for is found here without making them: numbers come
as columns, polygons are judged as text (`polygon_text`), and only what that leaves in doubt is
decoded. Where anything is not sound, or not of the usual kind, the file is read record by record,
which finds the words for what is wrong.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO

import msgspec
import numpy as np
import torch

from ..errors import DataError
from .columns import Columns
from .decoding import check_references, decode_json, paused_gc
from .index import AnnotationIndex, Doubtful, live_index
from .json_parts import list_parts, opening, record_spans, rest_of_file
from .masks import FARTHEST, annotation_problem, check_geometry, sound_sizes
from .schema import (
    Annotation,
    AnnotationFile,
    Category,
    EvaluationFile,
    Id,
    Image,
    IndexedAnnotation,
    IndexedFile,
)

__all__ = ["drawn_polygons", "read_index"]

_KIND = "an LVIS or COCO annotation file"
_KNOWN = b'{"iif_d2":1}'
_decode_image = msgspec.json.Decoder(Image).decode
_decode_annotation = msgspec.json.Decoder(Annotation).decode


def read_index(path: str | os.PathLike, annotated: bool = True) -> AnnotationIndex:
    """The index of a file; while one of the same file is in use, that one.

    Args:
        annotated: whether 'annotations' has to be there.

    Raises:
        DataError: the file cannot be used; the message says where, and what to do.
    """
    path = os.fspath(path)
    key = _key(path)
    index = live_index(key)
    if index is not None:
        return index
    index = _quickly(path, key)
    if index is None:
        index = _by_record(path, key, AnnotationFile if annotated else EvaluationFile)
    if _key(path) != key:
        raise DataError(f"{path} was changed while it was read; start again when it is complete")
    if annotated:
        index.remember()
    return index


def _key(path: str) -> tuple | None:
    try:
        state = os.stat(path)
    except OSError:
        return None
    return os.path.realpath(path), state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def _quickly(path: str, key: tuple | None) -> AnnotationIndex | None:
    """None where the file has to be read record by record."""
    try:
        if not os.path.isfile(path):
            return None
        with open(path, "rb", buffering=0) as file, paused_gc():
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _parsed(path, key, file, content)
    except (OSError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return None


def _parsed(path: str, key: tuple, file: BinaryIO, content: mmap.mmap) -> AnnotationIndex | None:
    start = opening(content)
    if start is None:
        return None
    kept = np.empty(len(content), dtype=np.uint8)  # pages that are not written take no memory
    size, columns = 0, Columns()
    for part in list_parts(file, start, IndexedAnnotation):
        end = size + len(part.text)
        kept[size:end] = np.frombuffer(part.text, dtype=np.uint8)
        columns.add(part.records, record_spans(part) + size)
        size = end
    rest = rest_of_file(content, start, part.end, _KNOWN)
    found = msgspec.json.decode(rest, type=IndexedFile)
    if [bytes(record) for record in found.annotations] != [_KNOWN]:
        return None
    spans = _spans(found.images) + size
    end = int(spans[-1, 1]) if len(spans) else size
    kept[size:end] = np.frombuffer(b"".join(found.images), dtype=np.uint8)
    images = [_decode_image(text) for text in found.images]
    return _assembled(path, key, found.categories, images, columns, kept[:end], spans)


def _by_record(path: str, key: tuple | None, schema: Any) -> AnnotationIndex:
    """The same, slowly, with words for what is wrong."""
    found = decode_json(path, schema, _KIND)
    if schema is EvaluationFile and not found.images:
        raise DataError(f"{path}: 'images' is empty; there is nothing to evaluate on")
    check_references(path, found)
    check_geometry(path, found)
    texts = [msgspec.json.encode(record) for record in found.annotations]
    columns = Columns()
    columns.add([msgspec.json.decode(t, type=IndexedAnnotation) for t in texts], _spans(texts))
    size = sum(map(len, texts))
    image_texts = [msgspec.json.encode(image) for image in found.images]
    kept = np.frombuffer(bytearray(b"".join(texts + image_texts)), dtype=np.uint8)
    spans = _spans(image_texts) + size
    index = _assembled(path, key, found.categories, found.images, columns, kept, spans)
    assert index is not None, f"{path} was checked"
    return index


def _spans(texts: Sequence) -> np.ndarray:
    """int64 (N, 2): where each begins and ends if they lie one behind the other."""
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    return np.stack([ends[:-1], ends[1:]], axis=1)


def _assembled(
    path: str,
    key: tuple | None,
    categories: list[Category],
    images: list[Image],
    columns: Columns,
    content: np.ndarray,
    image_spans: np.ndarray,
) -> AnnotationIndex | None:
    """None where something is not sound."""
    positions = np.array(_numbers_first([image.id for image in images]), dtype=np.int64)
    images = [images[i] for i in positions]
    sizes = np.array([(i.height, i.width) for i in images], dtype=np.int64).reshape(-1, 2)
    columns.join()
    of_image = columns.images({image.id: place for place, image in enumerate(images)})
    category_ids = sorted(category.id for category in categories)
    classes = columns.classes({id: place for place, id in enumerate(category_ids)})
    sound = (
        of_image is not None
        and classes is not None
        and _distinct(image.id for image in images)
        and _distinct(category_ids)
        and len(categories)
        and all(category.name.strip() for category in categories)
        and sound_sizes(sizes)
        and (np.abs(columns.boxes) <= FARTHEST).all()
        and not (columns.areas < 0).any()
        and not np.isinf(columns.areas).any()
    )
    if not sound:
        return None
    masks = _judged(columns, content, sizes[of_image])
    if masks is None:
        return None
    unusable, has_mask = masks
    empty = np.where(
        np.isnan(columns.areas), columns.boxes[:, 2] * columns.boxes[:, 3], columns.areas
    )
    order = np.argsort(of_image, kind="stable")

    def doubtful(which: np.ndarray) -> Doubtful | None:
        places = np.flatnonzero(which)
        if not len(places):
            return None
        start, end = columns.spans[places[0]]
        return Doubtful(len(places), int(places[0]), _decode_annotation(content[start:end].data))

    return AnnotationIndex(
        path=path,
        key=key,
        categories=categories,
        image_ids=[image.id for image in images],
        positions=positions,
        sizes=sizes,
        negatives=np.array([i.neg_category_ids is not None for i in images], dtype=bool),
        located=np.array([bool(i.file_name or i.coco_url) for i in images], dtype=bool),
        first=np.concatenate([[0], np.cumsum(np.bincount(of_image, minlength=len(images)))]),
        classes=classes[order],
        crowds=columns.crowds[order],
        without_area=~(empty > 0)[order],
        unusable=unusable[order],
        masks=has_mask,
        repeated_id=columns.repeated_id,
        odd_boxes=doubtful(_outside(columns.boxes, sizes[of_image])),
        odd_polygons=doubtful(unusable),
        content=torch.from_numpy(content),
        image_spans=image_spans[positions],
        spans=columns.spans[order],
    )


def _numbers_first(ids: list[Id]) -> list[int]:
    """The places of the ids in their order. Python does not compare numbers with texts."""
    numbers = [place for place, id in enumerate(ids) if not isinstance(id, str)]
    names = [place for place, id in enumerate(ids) if isinstance(id, str)]
    return sorted(numbers, key=ids.__getitem__) + sorted(names, key=ids.__getitem__)


def _distinct(ids: Iterable) -> bool:
    ids = list(ids)
    return len(set(ids)) == len(ids)


def _judged(
    columns: Columns, content: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, bool] | None:
    """Which masks have no polygon of three points, and whether there is any mask.

    None if one cannot be drawn.
    """
    unusable = np.zeros(len(sizes), dtype=bool)
    doubted = columns.bounds > 2 * sizes.max(axis=1, initial=0)
    has_mask = bool((columns.bounds[~doubted] > 0).any())
    for place in np.flatnonzero(doubted):
        start, end = columns.spans[place]
        annotation = _decode_annotation(content[start:end].data)
        if annotation_problem(annotation, *sizes[place].tolist()):
            return None
        mask = annotation.segmentation
        has_mask |= bool(mask)
        unusable[place] = isinstance(mask, list) and bool(mask) and not drawn_polygons(mask)
    return unusable, has_mask


def drawn_polygons(polygons: list[list]) -> list[list]:
    """Those with three points or more."""
    return [p for p in polygons if len(p) % 2 == 0 and len(p) >= 6]


def _outside(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """bool (M,): boxes that are empty, or have nothing in their image."""
    low, sides = boxes[:, :2], boxes[:, 2:]
    inside = (sides > 0) & (low < sizes[:, ::-1]) & (low + sides > 0)
    return ~inside.all(axis=1)

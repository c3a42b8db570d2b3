"""The reader of LVIS and COCO json, and the validator: both formats share their skeleton.

Other formats become COCO json in memory first, see `formats`.

A million annotations as Python objects take seven times the memory of their text. So a file is cut
into the texts of its objects, and some hundred at a time are decoded into columns and checked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, repeat
from operator import attrgetter
from typing import Any, NamedTuple, NoReturn

import msgspec
import numpy as np

from ..errors import DataError
from .columns import Annotations, ClassLabels, Texts, crowds_only, live_annotations
from .decoding import json_errors, paused_gc
from .faults import with_all_faults
from .masks import PLAIN_BELOW, drawn_polygons, mask_problem, plain_masks
from .schema import (
    Annotation,
    AnnotationFile,
    Category,
    CategoryFile,
    Id,
    Image,
    LabelFile,
    Mask,
)
from .sources import KIND, annotation_path, decode_annotations, source_key

__all__ = ["crowds_doubt", "read_annotations", "read_categories", "read_labels"]

_BLOCK = 1000  # objects decoded at a time; what is made of them stays in a processor's cache
_LONGEST_SIDE = 1 << 17  # pixels; no picture that can be read is longer
_MOST_PIXELS = (1 << 31) - 1
_FARTHEST = 1e7  # pixels from the corner that a box may lie

_decode_images = msgspec.json.Decoder(list[Image]).decode
_decode_annotations = msgspec.json.Decoder(list[Annotation]).decode
_decode_masks = msgspec.json.Decoder(list[Mask]).decode


def read_categories(path: str | os.PathLike) -> list[Category]:
    """The classes alone, in the order of their ids.

    Raises:
        DataError: as `read_labels`.
    """
    path = annotation_path(path)
    with with_all_faults(path):
        return _checked_categories(path, decode_annotations(path, CategoryFile).categories)


def read_labels(path: str | os.PathLike) -> ClassLabels:
    """All that counting needs, checked.

    Raises:
        DataError: no file, not json, or of another type; ids that repeat or refer to nothing; a
            category without a name. The message says where, and what to do.
    """
    path = annotation_path(path)
    with with_all_faults(path):
        file = decode_annotations(path, LabelFile)
        categories = _checked_categories(path, file.categories)
        image_places = _places_of_ids(path, "images", file.images)
        class_places = _places_of_ids(path, "categories", categories)
        images, classes = _references(path, file.annotations, 0, image_places, class_places)
    flags = map(bool, map(attrgetter("iscrowd"), file.annotations))
    crowds = np.fromiter(flags, bool, len(file.annotations))
    return ClassLabels(categories, images, classes, crowds, len(file.images))


def read_annotations(path: str | os.PathLike) -> Annotations:
    """The whole file, checked; while one of the same file is in use, that one.

    A test set's has no 'annotations', and is read as if nothing were in its images.

    Raises:
        DataError: as `read_labels`; also for sizes, boxes and masks that cannot be drawn.
    """
    path = annotation_path(path)
    key = source_key(path)
    found = live_annotations(key)
    if found is not None:
        return found
    with with_all_faults(path), paused_gc():
        found = _read(path, key)
    if source_key(path) != key:
        raise DataError(f"{path} was changed while it was read; start again when it is complete")
    found.remember()
    return found


def _read(path: str, key: tuple | None) -> Annotations:
    file = decode_annotations(path, AnnotationFile)
    if not file.images:
        raise DataError(f"{path}: 'images' is empty; there is nothing to train or evaluate on")
    categories = _checked_categories(path, file.categories)
    images = _decoded(_decode_images, path, "images", file.images, range(len(file.images)))
    unlocated = _check_images(path, images)
    order = _order([image.id for image in images])
    images = [images[place] for place in order]
    sizes = np.array([(i.height, i.width) for i in images], dtype=np.int64).reshape(-1, 2)
    columns, ids = _read_columns(path, file.annotations, images, sizes, categories)

    boxes, areas = columns.boxes, columns.areas
    areas = np.where(np.isnan(areas), boxes[:, 2] * boxes[:, 3], areas)
    outside = _outside(boxes, sizes[columns.images])
    doubts = (
        _doubt(
            file.annotations,
            outside,
            "a 'bbox' that is empty (null, NaN, no size) or lies outside the image",
        ),
        _doubt(
            file.annotations,
            columns.unusable,
            "no polygon of three points or more in 'segmentation'",
        ),
        crowds_doubt(categories, columns.classes, columns.crowds),
        _names_doubt(categories),
    )
    by_image = np.argsort(columns.images, kind="stable")
    first = np.cumsum(np.bincount(columns.images + 1, minlength=len(images) + 1))
    return Annotations(
        path=path,
        key=key,
        categories=categories,
        image_ids=[image.id for image in images],
        sizes=sizes,
        negatives=np.array([i.neg_category_ids is not None for i in images], dtype=bool),
        first=first,
        classes=columns.classes[by_image],
        crowds=columns.crowds[by_image],
        ignored=columns.ignored[by_image],
        without_area=~(areas > 0)[by_image],
        unusable=columns.unusable[by_image],
        has_masks=bool(columns.masks.any()),
        unlocated=unlocated,
        repeated_id=_repeated(ids),
        doubts=[doubt for doubt in doubts if doubt],
        image_texts=Texts([file.images[place] for place in order], np.arange(len(images) + 1)),
        object_texts=Texts([file.annotations[place] for place in by_image.tolist()], first),
    )


class _Columns(NamedTuple):
    """The numbers of M annotations in the order of the file."""

    images: np.ndarray  # int64 (M,)
    classes: np.ndarray  # int64 (M,)
    boxes: np.ndarray  # float64 (M, 4)
    areas: np.ndarray  # float64 (M,), NaN where the file does not say
    crowds: np.ndarray  # bool (M,)
    ignored: np.ndarray  # bool (M,)
    masks: np.ndarray  # bool (M,), whether there is one
    unusable: np.ndarray  # bool (M,)


def _read_columns(
    path: str, texts: list, images: list[Image], sizes: np.ndarray, categories: list[Category]
) -> tuple[_Columns, list[Id | None]]:
    """The columns of the annotations, checked, and their ids."""
    image_places = {image.id: place for place, image in enumerate(images)}
    class_places = {category.id: place for place, category in enumerate(categories)}
    blocks, ids = [], []
    for start in range(0, max(len(texts), 1), _BLOCK):
        block = texts[start : start + _BLOCK]
        places = range(start, start + len(block))
        rows = _decoded(_decode_annotations, path, "annotations", block, places)
        of_image, classes = _references(path, rows, start, image_places, class_places)
        numbers = list(chain.from_iterable(map(attrgetter("bbox"), rows)))
        boxes = np.array(numbers, dtype=np.float64).reshape(-1, 4)
        boxes[np.isnan(boxes).any(axis=1)] = 0.0  # as empty as one that Detectron2 leaves out
        areas = np.array([row.area for row in rows], dtype=np.float64)
        crowds = np.array([bool(row.iscrowd) for row in rows], dtype=bool)
        ignored = np.array([bool(row.ignore) for row in rows], dtype=bool)
        ids += [row.id for row in rows]
        far = ~(np.abs(boxes) <= _FARTHEST).all(axis=1)
        for wrong, what in ((far, "bbox {bbox} is not in pixels"), (areas < 0, "area is {area}")):
            for index in np.flatnonzero(wrong).tolist():
                _refuse(path, places[index], block[index], what)
        masks = _judged(path, block, places, [row.segmentation for row in rows], sizes[of_image])
        blocks.append((of_image, classes, boxes, areas, crowds, ignored, *masks))
    return _Columns(*map(np.concatenate, zip(*blocks))), ids


def _judged(
    path: str, texts: list, places: Sequence[int], masks: list, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bool (N,) each: whether there is a mask, and whether it has no polygon of three points."""
    judged = plain_masks(masks)
    there, unusable = judged > 0, np.zeros(len(masks), dtype=bool)
    small = 2 * sizes.max(axis=1, initial=0) < PLAIN_BELOW
    doubted = np.flatnonzero((judged < 0) | there & small).tolist()
    texts, places = [texts[index] for index in doubted], [places[index] for index in doubted]
    rows = _decoded(_decode_masks, path, "annotations", texts, places)
    for index, row, text, place in zip(doubted, rows, texts, places):
        mask = row.segmentation
        problem = mask_problem(mask, *sizes[index].tolist())
        if problem:
            _refuse(path, place, text, f"segmentation {problem}")
        there[index] = bool(mask)
        unusable[index] = isinstance(mask, list) and bool(mask) and not drawn_polygons(mask)
    return there, unusable


def _refuse(path: str, place: int, text: msgspec.Raw, problem: str) -> NoReturn:
    found = msgspec.json.decode(text)
    raise DataError(
        f"{path}: annotations[{place}].{problem.format_map(found)} (id {found.get('id')}, image_id "
        f"{found['image_id']!r}{_source(found)}); mend or remove the annotation"
    )


def _doubt(texts: list, which: np.ndarray, what: str) -> str | None:
    """What to say of these annotations, if there are any."""
    if not which.any():
        return None
    place = int(np.argmax(which))
    first = msgspec.json.decode(texts[place])
    return (
        f"{which.sum()} of {len(which)} annotations have {what}; training leaves them out. First: "
        f"annotations[{place}] (id {first.get('id')}, image_id {first['image_id']}, bbox "
        f"{first['bbox']}{_source(first)}). Mend or remove them."
    )


def _source(found: dict[str, Any]) -> str:
    """The file and line that an object in another format is from."""
    source = found.get("source")
    return f", {source[:200]}" if isinstance(source, str) else ""


def crowds_doubt(categories: list[Category], classes: np.ndarray, crowds: np.ndarray) -> str | None:
    """What to say of classes of which all objects are crowds; None if there are none."""
    only = np.flatnonzero(crowds_only(classes, crowds, len(categories)))
    if not len(only):
        return None
    first = categories[only[0]]
    more = f", and of {len(only) - 1} more classes," if len(only) > 1 else ""
    return (
        f"all {(classes == only[0]).sum()} objects of class {first.name!r} (id {first.id!r}){more} "
        f"are crowds (iscrowd 1), which training leaves out: they count as never seen. Where they "
        f"are single objects, as those that CVAT's brush draws, set their iscrowd to 0."
    )


def _names_doubt(categories: list[Category]) -> str | None:
    """What to say of classes of one name; None if there are none."""
    by_name: dict[str, list[Id]] = {}
    for category in categories:
        by_name.setdefault(str(category.name), []).append(category.id)
    name, ids = max(by_name.items(), key=lambda item: len(item[1]))
    if len(ids) == 1:
        return None
    return (
        f"{len(ids)} categories are named {name!r}, with ids {', '.join(map(repr, ids[:5]))}; they "
        f"are told apart by id here: rename them, or join them if they are one class"
    )


def _outside(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """bool (M,): boxes that are empty, or have nothing in their image."""
    low, sides = boxes[:, :2], boxes[:, 2:]
    inside = (sides > 0) & (low < sizes[:, ::-1]) & (low + sides > 0)
    return ~inside.all(axis=1)


def _decoded(decode: Callable, path: str, field: str, texts: list, places: Sequence[int]) -> list:
    """Records from their texts; an error says at which of these places of the file they are."""

    def in_file(found: re.Match) -> str:
        return f"$.{field}[{places[int(found[1])]}]"

    with json_errors(path, KIND):
        try:
            return decode(b"[%b]" % b",".join(texts))
        except msgspec.ValidationError as error:
            said = re.sub(r"\$\[(\d+)\]", in_file, str(error), count=1)
            raise msgspec.ValidationError(said) from None


def _checked_categories(path: str, categories: list[Category]) -> list[Category]:
    """In the order of their ids."""
    if not categories:
        raise DataError(f"{path}: 'categories' is empty; a detector needs at least one class")
    for index, category in enumerate(categories):
        if not str(category.name).strip():
            raise DataError(
                f"{path}: categories[{index}] (id {category.id}) has no name; give it one"
            )
    _places_of_ids(path, "categories", categories)
    if len({isinstance(category.id, str) for category in categories}) > 1:
        raise DataError(
            f"{path}: some ids in 'categories' are text and others numbers; write one kind"
        )
    return [categories[place] for place in _order([category.id for category in categories])]


def _places_of_ids(path: str, field: str, records: list) -> dict[Id, int]:
    """The place of each id, which must be unique."""
    repeated = _repeated([record.id for record in records])
    if repeated is not None:
        raise DataError(
            f"{path}: {field}[{repeated[0]}].id {repeated[1]!r} is there twice; ids must be unique"
        )
    return {record.id: place for place, record in enumerate(records)}


def _repeated(ids: list) -> tuple[int, Id] | None:
    """Place and id of the first that was there before, where there is an id."""
    different = set(ids)
    if len(different) == len(ids):
        return None
    seen = set()
    for place, id in enumerate(ids):
        if id in seen:
            return place, id
        if id is not None:
            seen.add(id)
    return None


def _check_images(path: str, images: list[Image]) -> tuple[int, Image] | None:
    """The first of which the file does not say where on disk it is, after its place."""
    _places_of_ids(path, "images", images)
    unlocated = None
    for index, image in enumerate(images):
        height, width = image.height, image.width
        sound = 0 < height <= _LONGEST_SIDE and 0 < width <= _LONGEST_SIDE
        if not sound or height * width > _MOST_PIXELS:
            raise DataError(
                f"{path}: images[{index}] (id {image.id!r}) has height {height} and width {width}; "
                f"correct them"
            )
        name = image.file_name or image.coco_url and "."
        if unlocated is None and (not name or "://" in name):
            unlocated = index, image
    return unlocated


def _order(ids: list[Id]) -> list[int]:
    """The places of the ids in their order, numbers before texts."""
    try:
        return sorted(range(len(ids)), key=ids.__getitem__)
    except TypeError:  # Python does not compare numbers with texts
        return sorted(range(len(ids)), key=lambda place: (isinstance(ids[place], str), ids[place]))


def _references(
    path: str, rows: list, start: int, images: Mapping, classes: Mapping
) -> tuple[np.ndarray, np.ndarray]:
    """The places of the rows' images and categories, int64 (N,) each; they begin at `start`."""

    def places(field: str, where: str, known: Mapping) -> np.ndarray:
        ids = map(attrgetter(field), rows)
        found = np.fromiter(map(known.get, ids, repeat(-1)), np.int64, len(rows))
        for index in np.flatnonzero(found < 0).tolist():
            raise DataError(
                f"{path}: annotations[{start + index}].{field} is {getattr(rows[index], field)!r}, "
                f"which '{where}' does not list; add it to '{where}' or remove the annotation"
            )
        return found

    of_class = places("category_id", "categories", classes)
    return places("image_id", "images", images), of_class

"""The numbers of annotations as columns, collected part by part."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np

from .polygon_text import coordinate_bounds
from .schema import IndexedAnnotation

__all__ = ["Columns"]


class Columns:
    """M annotations in the order of the file; `join` when all are there.

    Attributes:
        boxes: float64 (M, 4).
        areas: float64 (M,), NaN where the file does not say.
        crowds: bool (M,).
        bounds: float64 (M,), as `coordinate_bounds` has them.
        spans: int64 (M, 2), where each one's text begins and ends.
        repeated_id: place and id of the first whose id one before it has; None if there is none.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, ...]] = []
        # Numbers for the ids in the order in which they come: they may be texts, or anything.
        self._image_codes: dict[Any, int] = {}
        self._category_codes: dict[Any, int] = {}

    def add(self, records: list[IndexedAnnotation], spans: np.ndarray) -> None:
        count = len(records)
        boxes = np.fromiter(_flat(records, "bbox"), np.float64, 4 * count).reshape(count, 4)
        self._parts.append(
            (
                _coded(records, "image_id", self._image_codes),
                _coded(records, "category_id", self._category_codes),
                boxes,
                np.array(_column(records, "area"), dtype=np.float64),  # None becomes NaN
                np.fromiter(map(bool, _column(records, "iscrowd")), bool, count),
                coordinate_bounds(_column(records, "segmentation")),
                spans,
                *_ids(records),
            )
        )

    def join(self) -> None:
        (
            self._images, self._categories, self.boxes, self.areas, self.crowds, self.bounds,
            self.spans, identified, ids,
        ) = (np.concatenate(column) for column in zip(*self._parts))  # fmt: skip
        self._parts.clear()
        ordered = np.sort(ids)
        self.repeated_id = None
        if (ordered[1:] == ordered[:-1]).any():
            place = _first_repeated(ids.tolist())
            self.repeated_id = int(np.flatnonzero(identified)[place]), ids[place]

    def images(self, place: dict[Any, int]) -> np.ndarray | None:
        """int64 (M,): the place of each annotation's image; None if one has none."""
        return _decoded(self._images, self._image_codes, place)

    def classes(self, place: dict[Any, int]) -> np.ndarray | None:
        """int64 (M,): the place of each annotation's category; None if one has none."""
        return _decoded(self._categories, self._category_codes, place)


def _column(records: Sequence, field: str) -> list:
    return list(map(attrgetter(field), records))


def _flat(records: Sequence, field: str) -> chain:
    return chain.from_iterable(map(attrgetter(field), records))


def _coded(records: Sequence, field: str, codes: dict[Any, int]) -> np.ndarray:
    ids = _column(records, field)
    for id in set(ids).difference(codes):
        codes[id] = len(codes)
    return np.fromiter(map(codes.__getitem__, ids), np.int32, len(ids))


def _decoded(coded: np.ndarray, codes: dict, place: dict) -> np.ndarray | None:
    if not codes.keys() <= place.keys():
        return None
    places = np.fromiter((place[id] for id in codes), np.int64, len(codes))
    return places[coded]


def _ids(records: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """bool (N,), which have an id, and those."""
    ids = _column(records, "id")
    identified = np.fromiter((id is not None for id in ids), bool, len(ids))
    ids = [id for id in ids if id is not None]
    try:
        return identified, np.fromiter(ids, np.int64, len(ids))
    except OverflowError:
        return identified, np.array(ids, dtype=object)


def _first_repeated(ids: list) -> int:
    """The place of the first that was there before."""
    seen: set = set()
    for place, id in enumerate(ids):
        if id in seen:
            return place
        seen.add(id)
    raise ValueError("no id is there twice")

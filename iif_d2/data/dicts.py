"""Dataset dicts that are made when asked for."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.data import DatasetFromList

__all__ = ["DatasetDicts", "DictLabels"]


@dataclass(frozen=True)
class DictLabels:
    """The dicts of N images with `height`, `width` and each object's class and crowd alone."""

    sizes: np.ndarray  # int64 (N, 2), height and width in pixels
    first: np.ndarray  # int64 (N + 1,), where each image's objects begin
    classes: np.ndarray  # int64 (M,), contiguous
    crowds: np.ndarray  # bool (M,)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        own = slice(self.first[index], self.first[index + 1])
        labels = zip(self.classes[own].tolist(), self.crowds[own].tolist())
        objects = [{"category_id": label, "iscrowd": int(crowd)} for label, crowd in labels]
        height, width = self.sizes[index].tolist()
        return {"height": height, "width": width, "annotations": objects}

    def has_objects(self) -> np.ndarray:
        before = np.cumsum(np.concatenate([[0], ~self.crowds]))
        return np.diff(before[self.first]) > 0

    def wide(self) -> np.ndarray:
        return self.sizes[:, 1] > self.sizes[:, 0]


class DatasetDicts(Sequence):
    """A list of dataset dicts that takes the memory of their bytes, a fraction of the dicts'.

    It is read like a list. An item is made each time it is asked for, equal and new: what is
    written into one is gone with it, and the sequence cannot be assigned to. Code that changes the
    dicts takes `list(dicts)`, which makes them all. Detectron2's functions take a sequence where
    they take a list; those that filter or join make lists of it.

    A slice, and a sum of two, are sequences too. Worker processes and, by `load_once`, the ranks of
    a machine share the bytes.
    """

    def __init__(self, sources: list, places: np.ndarray | None = None) -> None:
        """The items of the sources, one behind the other; only those at `places`.

        A source has a length and items, and may have the `labels` that they would have.
        """
        self.sources = sources
        self._starts = np.cumsum([0, *map(len, sources)], dtype=np.int64)
        self._places = np.arange(self._starts[-1]) if places is None else places

    @classmethod
    def of(cls, dicts: list[dict]) -> DatasetDicts:
        """The same dicts as bytes."""
        return cls([DatasetFromList(dicts, copy=False)])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        place = self._places[operator.index(index)]
        source = np.searchsorted(self._starts, place, side="right") - 1
        return self.sources[source][int(place - self._starts[source])]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self.__getitem__, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (list, DatasetDicts)):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None

    def __add__(self, other: list | DatasetDicts) -> list | DatasetDicts:
        if isinstance(other, list):
            return list(self) + other
        if not isinstance(other, DatasetDicts):
            return NotImplemented
        places = np.concatenate([self._places, other._places + self._starts[-1]])
        return DatasetDicts([*self.sources, *other.sources], places)

    def __radd__(self, other: list) -> list:
        return other + list(self) if isinstance(other, list) else NotImplemented

    def __repr__(self) -> str:
        return f"<{len(self)} dataset dicts>"

    def take(self, places: np.ndarray) -> DatasetDicts:
        """The items at these places, int64 (N,), or where a bool (N,) is true."""
        return DatasetDicts(self.sources, self._places[places])

    def labels(self) -> DatasetDicts:
        """The dicts with `height`, `width` and of each object `category_id` and `iscrowd` alone.

        Samplers and filters look at no more, and these cost little.
        """
        return DatasetDicts([getattr(s, "labels", s) for s in self.sources], self._places)

    def learnt(self) -> DatasetDicts:
        """`labels` without classes of which all objects are crowds, as they are counted."""
        labels = self.labels()
        crowds: set[int] = set()
        single: set[int] = set()
        for source in labels.sources:
            if isinstance(source, DictLabels):
                crowds.update(np.unique(source.classes[source.crowds]).tolist())
                single.update(np.unique(source.classes[~source.crowds]).tolist())
                continue
            for place in range(len(source)):
                for instance in source[place].get("annotations", ()):
                    kind = crowds if instance.get("iscrowd", 0) else single
                    kind.add(instance["category_id"])
        if crowds <= single:
            return labels
        sources = [_Without(source, crowds - single) for source in labels.sources]
        return DatasetDicts(sources, self._places)

    def has_objects(self) -> np.ndarray:
        """bool (N,): images with an object that is no crowd."""

        def has(record: dict) -> bool:
            return any(not instance.get("iscrowd", 0) for instance in record["annotations"])

        return self._told(DictLabels.has_objects, has)

    def wide(self) -> np.ndarray:
        """bool (N,): images wider than high, by which batches are grouped.

        Raises:
            KeyError: a dict has no width or height.
        """
        return self._told(DictLabels.wide, lambda record: record["width"] > record["height"])

    def _told(self, by_labels: Callable, by_record: Callable) -> np.ndarray:
        found = [
            by_labels(source)
            if isinstance(source, DictLabels)
            else np.array([by_record(source[place]) for place in range(len(source))], dtype=bool)
            for source in self.labels().sources
        ]
        return np.concatenate(found)[self._places]


class _Without:
    """Dicts without the objects of some classes."""

    def __init__(self, source: Any, classes: set[int]) -> None:
        self._source, self._classes = source, classes

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self._source[index]
        kept = [a for a in record["annotations"] if a["category_id"] not in self._classes]
        return {**record, "annotations": kept}

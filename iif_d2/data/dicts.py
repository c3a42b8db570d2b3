"""Dataset dicts kept as bytes, and made when asked for."""

from __future__ import annotations

import operator
import pickle
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

__all__ = ["DatasetDicts", "Labels", "PickledDicts", "Source"]


class Labels(NamedTuple):
    """What samplers look at, of N images and their M objects.

    Attributes:
        sizes: int64 (N, 2), height and width in pixels.
        first: int64 (N + 1,), where each image's objects begin.
        classes: int64 (M,), contiguous.
        crowds: bool (M,).
    """

    sizes: np.ndarray
    first: np.ndarray
    classes: np.ndarray
    crowds: np.ndarray

    @classmethod
    def of(cls, dicts: list[dict]) -> Labels | None:
        """Those of dataset dicts; None where one has no size, or objects without a class."""
        try:
            sizes = [(record["height"], record["width"]) for record in dicts]
            objects = [record["annotations"] for record in dicts]
            classes = [instance["category_id"] for found in objects for instance in found]
            crowds = [bool(instance.get("iscrowd", 0)) for found in objects for instance in found]
        except (KeyError, TypeError, AttributeError):
            return None
        first = np.cumsum([0, *map(len, objects)], dtype=np.int64)
        if not all(isinstance(label, (int, np.integer)) for label in classes):
            return None
        classes = np.array(classes, dtype=np.int64)
        sizes = np.array(sizes, dtype=np.int64).reshape(-1, 2)
        return cls(sizes, first, classes, np.array(crowds, dtype=bool))

    def record(self, index: int) -> dict[str, Any]:
        """An image's dict with its size, and its objects' classes and crowds, alone."""
        own = slice(self.first[index], self.first[index + 1])
        labels = zip(self.classes[own].tolist(), self.crowds[own].tolist())
        objects = [{"category_id": label, "iscrowd": int(crowd)} for label, crowd in labels]
        height, width = self.sizes[index].tolist()
        return {"height": height, "width": width, "annotations": objects}


class Source(Protocol):
    """Dicts that are made when asked for, and their labels if they are known without."""

    labels: Labels | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


class PickledDicts:
    """Any dicts, as pickles behind one another."""

    def __init__(self, dicts: list[dict]) -> None:
        pickles = [pickle.dumps(record, protocol=pickle.HIGHEST_PROTOCOL) for record in dicts]
        self._ends = np.cumsum([len(text) for text in pickles], dtype=np.int64)
        # A tensor, which worker processes share however they are started.
        self._content = torch.from_numpy(np.frombuffer(bytearray(b"".join(pickles)), np.uint8))
        self.labels = Labels.of(dicts)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> dict[str, Any]:
        start = self._ends[index - 1] if index else 0
        return pickle.loads(memoryview(self._content[start : self._ends[index]].numpy()))


class DatasetDicts(Sequence):
    """A list of dataset dicts that takes the memory of their bytes, a fraction of the dicts'.

    It is read like a list. An item is made each time it is asked for, equal and new: what is
    written into one is gone with it, and the sequence cannot be assigned to. Code that changes the
    dicts takes `list(dicts)`, which makes them all. Detectron2's functions take a sequence where
    they take a list; those that filter or join make lists of it.

    A slice, and a sum of two, are sequences too. Worker processes and, by `load_once`, the ranks of
    a machine share the bytes.
    """

    def __init__(self, sources: list[Source], places: np.ndarray | None = None) -> None:
        """The items of the sources, one source behind the other; only those at `places`."""
        self.sources = sources
        self._starts = np.cumsum([0, *map(len, sources)], dtype=np.int64)
        self._places = np.arange(self._starts[-1]) if places is None else places

    @classmethod
    def of(cls, dicts: list[dict]) -> DatasetDicts:
        """The same dicts as bytes."""
        return cls([PickledDicts(dicts)])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        source, place = self._find(operator.index(index))
        return source[place]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (list, DatasetDicts)):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other))

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

    def labels(self) -> _LabelDicts:
        """The dicts with `height`, `width` and of each object `category_id` and `iscrowd` alone.

        Samplers and filters look at no more, and these cost little.
        """
        return _LabelDicts(self)

    def has_objects(self) -> np.ndarray:
        """bool (N,): images with an object that is no crowd."""
        found = []
        for source in self.sources:
            labels = source.labels
            if labels is None:
                objects = (record["annotations"] for record in source)
                found.append([any(not o.get("iscrowd", 0) for o in listed) for listed in objects])
            else:
                of_image = np.repeat(np.arange(len(source)), np.diff(labels.first))
                found.append(np.bincount(of_image[~labels.crowds], minlength=len(source)) > 0)
        return np.concatenate(found)[self._places]

    def wide(self) -> np.ndarray:
        """bool (N,): images that are wider than high."""
        found = [
            np.array([record["width"] > record["height"] for record in source], dtype=bool)
            if source.labels is None
            else source.labels.sizes[:, 1] > source.labels.sizes[:, 0]
            for source in self.sources
        ]
        return np.concatenate(found)[self._places]

    def _find(self, index: int) -> tuple[Source, int]:
        place = self._places[index]
        which = np.searchsorted(self._starts, place, side="right") - 1
        return self.sources[which], int(place - self._starts[which])


class _LabelDicts(Sequence):
    def __init__(self, dicts: DatasetDicts) -> None:
        self._dicts = dicts

    def __len__(self) -> int:
        return len(self._dicts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        source, place = self._dicts._find(index)
        return source[place] if source.labels is None else source.labels.record(place)

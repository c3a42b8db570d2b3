"""How often each class occurs: the image frequency of Eq. 1 and the instance count beside it.

Numbers only. `iif_d2.count_class_frequency` makes them from a data set; every method in
`iif_d2.methods` is built from them.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from .errors import DataError
from .groups import GROUP_LIMITS, GROUPS

_LARGEST_COUNT = 1 << 40  # a sum over millions of classes stays within 64 bits


class FrequencySource(Protocol):
    """Class frequencies, at hand (`ClassFrequency`) or counted when needed (`DeferredFrequency`).

    `len` is C, known before anything is counted; `resolve` gives the counts, `measured` those with
    the `dimension` of each class; messages say `name`.
    """

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def resolve(self) -> ClassFrequency: ...

    def measured(self) -> ClassFrequency: ...


@dataclass(frozen=True, eq=False)
class ClassFrequency:
    """The counts of C classes over one training set, in contiguous class order.

    Attributes:
        class_names: C names.
        image_count: int64 (C,), images in which each class appears (Eq. 1).
        instance_count: int64 (C,), objects of each class; None where the source has none.
        num_images: images in the set, those without annotations included.
        dimension: float64 (C,), the box-counting dimension of where each class lies, in [1, 2];
            None where it was not measured. See `data.dimension`.
        class_groups: (C,) of "r", "c", "f", which may be given as one text: the groups that the
            annotation file states in each category's `frequency`, or that limits have settled;
            None where nothing has. `groups` is what to ask.

    Equal are those of the same names and counts.

    Raises:
        DataError: arrays of other shapes or types, or counts that cannot be (negative, more images
            of a class than there are images or instances).

    Examples:
        >>> frequency = ClassFrequency(("cat", "owl"), [90, 10], [120, 10], num_images=100)
        >>> frequency.groups()
        array(['c', 'r'], dtype='<U1')
        >>> frequency.save("counts.json")
        >>> ClassFrequency.load("counts.json") == frequency
        True
    """

    class_names: tuple[str, ...]
    image_count: np.ndarray
    instance_count: np.ndarray | None
    num_images: int
    class_groups: Sequence[str] | np.ndarray | None = None
    dimension: np.ndarray | None = None

    name = "the given frequencies"

    def __post_init__(self) -> None:
        names = tuple(str(name) for name in self.class_names)
        object.__setattr__(self, "class_names", names)
        object.__setattr__(self, "num_images", int(self.num_images))
        for field in ("image_count", "instance_count"):
            count = getattr(self, field)
            if count is not None:
                object.__setattr__(self, field, _counts(field, count, len(names)))
        if self.class_groups is not None:
            object.__setattr__(self, "class_groups", _letters(self.class_groups, len(names)))
        if self.image_count.max(initial=0) > self.num_images:
            worst = int(self.image_count.argmax())
            raise DataError(
                f"image_count of class {names[worst]!r} is {self.image_count[worst]}, "
                f"but num_images is {self.num_images}"
            )
        if self.instance_count is not None:
            fewer = np.flatnonzero(self.instance_count < self.image_count)
            if len(fewer):
                raise DataError(
                    f"instance_count of class {names[fewer[0]]!r} is "
                    f"{self.instance_count[fewer[0]]}, but image_count is "
                    f"{self.image_count[fewer[0]]}, and each image holds at least one"
                )
        if self.dimension is not None:
            object.__setattr__(self, "dimension", _dimensions(self.dimension, len(names)))

    def __len__(self) -> int:
        return len(self.class_names)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClassFrequency):
            return NotImplemented
        return self.class_names == other.class_names and self.same_counts(other)

    __hash__ = None  # type: ignore[assignment]

    def resolve(self) -> ClassFrequency:
        """Itself: these counts are at hand."""
        return self

    def measured(self) -> ClassFrequency:
        """Itself, with the dimensions that FRACAL needs.

        Raises:
            DataError: it has none.
        """
        if self.dimension is None:
            raise DataError(
                "these frequencies hold no box-counting dimensions; count the annotations anew, "
                "with `python -m iif_d2 frequency SOURCE --dimension --output FILE` for a file or "
                "count_class_frequency(source, dimension=True)"
            )
        return self

    @classmethod
    def from_pairs(
        cls, class_names: Sequence[str], images: np.ndarray, classes: np.ndarray, num_images: int
    ) -> ClassFrequency:
        """Eq. 1 over objects.

        Args:
            images: int64, the index of each object's image.
            classes: int64, the index of each object's class.
        """
        pairs = images * len(class_names)
        pairs += classes  # in place, as there may be millions
        pairs.sort()
        pairs = pairs[np.diff(pairs, prepend=-1) != 0]  # an image counts once a class
        return cls(
            tuple(class_names),
            np.bincount(pairs % max(len(class_names), 1), minlength=len(class_names)),
            np.bincount(classes, minlength=len(class_names)),
            num_images,
        )

    def same_counts(self, other: ClassFrequency) -> bool:
        """Whether the numbers agree, whatever the classes are called.

        Dimensions are compared where both have them, up to what logarithms round.
        """
        ours, theirs = self.dimension, other.dimension
        if ours is not None and theirs is not None:
            if not np.allclose(ours, theirs, rtol=1e-9, atol=0):
                return False
        return self.num_images == other.num_images and all(
            np.array_equal(getattr(self, count), getattr(other, count))
            for count in ("image_count", "instance_count")
        )

    def count(self, statistic: str) -> np.ndarray:
        """int64 (C,): the "image" or the "instance" count.

        Raises:
            DataError: the instance statistic is asked of a source that has none.
        """
        if statistic == "image":
            return self.image_count
        if self.instance_count is None:
            raise DataError(
                "these frequencies hold no instance counts; use STATISTIC image, or count them "
                "from annotations that list every object"
            )
        return self.instance_count

    def groups(self, rare: int = GROUP_LIMITS[0], common: int = GROUP_LIMITS[1]) -> np.ndarray:
        """(C,) of "r", "c", "f": the `class_groups`, which is what every table and plot goes by.

        Where there are none, by training images: up to `rare`, up to `common`, more.
        """
        if self.class_groups is not None:
            return np.asarray(self.class_groups)
        return np.select(
            [self.image_count <= rare, self.image_count <= common], ["r", "c"], default="f"
        )

    @functools.cached_property
    def labels(self) -> list[str]:
        """The C names for messages, with the class's number where several have one name."""
        times = Counter(self.class_names)
        return [
            f"{name} (class {index})" if times[name] > 1 else name
            for index, name in enumerate(self.class_names)
        ]

    def grouped(self, rare: int, common: int) -> ClassFrequency:
        """The same with its groups settled: by these limits, where it has none."""
        return replace(self, class_groups=self.groups(rare, common))

    def describe(self) -> str:
        """A few words that tell one table from another in a message."""
        return (
            f"{len(self)} classes, {self.num_images:,} images, "
            f"image counts {self.image_count.min()} to {self.image_count.max():,} "
            f"with sum {self.image_count.sum():,}"
        )

    def save(self, path: str | os.PathLike) -> None:
        """Write to a json file, whole or not at all."""
        from .files import write_atomically

        write_atomically(path, self.to_json())

    def to_json(self) -> str:
        """What `save` writes."""
        import msgspec

        from .annotations.schema import FrequencyFile

        instances = None if self.instance_count is None else self.instance_count.tolist()
        dimensions = None if self.dimension is None else self.dimension.tolist()
        groups = None if self.class_groups is None else "".join(self.class_groups)
        content = FrequencyFile(
            list(self.class_names),
            self.image_count.tolist(),
            instances,
            self.num_images,
            dimensions,
            groups,
        )
        return msgspec.json.format(msgspec.json.encode(content), indent=1).decode()

    @classmethod
    def load(cls, path: str | os.PathLike) -> ClassFrequency:
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing, cut short or not a frequency file; the message names it.
        """
        from .annotations.decoding import decode_json
        from .annotations.schema import FrequencyFile

        path = os.fspath(path)
        return cls._of(decode_json(path, FrequencyFile, "a saved ClassFrequency"), path)

    @classmethod
    def from_json(cls, text: str, where: str) -> ClassFrequency:
        """Read what `to_json` made; `where` is what messages call it.

        Raises:
            DataError: it is something else.
        """
        import msgspec

        from .annotations.decoding import json_errors
        from .annotations.schema import FrequencyFile

        with json_errors(where, "a saved ClassFrequency"):
            return cls._of(
                msgspec.json.decode(text.encode(errors="replace"), type=FrequencyFile), where
            )

    @classmethod
    def _of(cls, content: Any, where: str) -> ClassFrequency:
        try:
            return cls(
                tuple(content.class_names),
                content.image_count,
                content.instance_count,
                content.num_images,
                content.groups,
                content.dimension,
            )
        except DataError as error:
            raise DataError(
                f"{where}: {error}; correct the file, or count the classes again"
            ) from None

    @classmethod
    def sum(cls, parts: Sequence[ClassFrequency]) -> ClassFrequency:
        """The counts of several sets over the same classes, added up.

        Dimensions have no sum: they stay where there is one set.

        Raises:
            DataError: the sets differ in their classes.
        """
        first = parts[0]
        for part in parts[1:]:
            mismatch = class_name_mismatch(first.class_names, part.class_names)
            if mismatch:
                raise DataError(
                    f"data sets of different classes cannot be counted together: {mismatch}"
                )
        instances = [p.instance_count for p in parts if p.instance_count is not None]
        stated = {part.class_groups is not None and "".join(part.class_groups) for part in parts}
        return cls(
            first.class_names,
            np.sum([part.image_count for part in parts], axis=0),
            np.sum(instances, axis=0) if len(instances) == len(parts) else None,
            sum(part.num_images for part in parts),
            (stated.pop() or None) if len(stated) == 1 else None,
            first.dimension if len(parts) == 1 else None,
        )


@dataclass(frozen=True)
class DeferredFrequency:
    """Frequencies that are counted when first needed, so that building a model reads no file.

    Attributes:
        num_classes: C, known beforehand.
        resolve: gives the `ClassFrequency`.
        name: what a message calls them, such as the data set's name.
        measure: gives the counts with the `dimension` of each class, where `resolve`'s have none.
    """

    num_classes: int
    resolve: Callable[[], ClassFrequency]
    name: str
    measure: Callable[[], ClassFrequency] | None = None

    def __len__(self) -> int:
        return self.num_classes

    def measured(self) -> ClassFrequency:
        """The counts with dimensions.

        Raises:
            DataError: they cannot be had; says why.
        """
        return (self.measure or self.resolve)().measured()


def _counts(field: str, count, num_classes: int) -> np.ndarray:
    array = np.asarray(count)
    if not num_classes:
        raise DataError("class_names is empty, and a detector needs at least one class")
    if array.shape != (num_classes,):
        raise DataError(f"{field} has shape {array.shape}, but there are {num_classes} class names")
    if array.max() > _LARGEST_COUNT:
        raise DataError(f"{field} has {array.max()}, more than can be added up")
    if array.dtype.kind not in "iu" and not np.array_equal(array, np.floor(array)):
        raise DataError(f"{field} must be whole numbers, not {array.dtype}")
    array = array.astype(np.int64)
    if (array < 0).any():
        raise DataError(f"{field} is negative for class number {int(np.argmax(array < 0))}")
    array.setflags(write=False)
    return array


def _dimensions(values: np.ndarray, num_classes: int) -> np.ndarray:
    array = np.array(values, dtype=np.float64)
    if array.shape != (num_classes,):
        raise DataError(
            f"dimension has shape {array.shape}, but there are {num_classes} class names"
        )
    if not ((array >= 1) & (array < 2 + 1e-9)).all():  # NaN, too
        raise DataError("dimension must be in [1, 2] for each class")
    array.setflags(write=False)
    return array


def _letters(groups: Sequence[str] | np.ndarray, num_classes: int) -> np.ndarray:
    array = np.array(list(groups), dtype=object)
    if array.shape != (num_classes,) or not all(letter in GROUPS for letter in array):
        raise DataError(
            f"groups must be {num_classes} letters, one a class, of {', '.join(GROUPS)}"
        )
    array = array.astype("<U1")
    array.setflags(write=False)
    return array


def class_name_mismatch(ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    """How two lists of class names disagree, or None where they mean the same classes in one order.

    One in ten may be called otherwise: LVIS v1 says "bull" where Detectron2 says "horned_cow". A
    name that stands at another place in the other list is no such renaming: the order differs.
    """
    if len(ours) != len(theirs):
        return f"{len(ours)} classes against {len(theirs)}"
    differ = [index for index, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1]]
    places = {theirs[index]: index for index in reversed(differ)}
    for index in differ:
        if (own := ours[index]) in places:
            said = f"class {index} is {own!r} against {theirs[index]!r}, and"
            return f"{said} {own!r} is class {places[own]} there: the order differs"
    if len(differ) <= len(ours) // 10:
        return None
    return f"class {differ[0]} is {ours[differ[0]]!r} against {theirs[differ[0]]!r}"

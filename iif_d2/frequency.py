"""How often each class occurs: the image frequency of Eq. 1 and the instance count beside it.

Numbers only. `iif_d2.count_class_frequency` makes them from a data set; every method in
`iif_d2.methods` is built from them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .errors import DataError

_LARGEST_COUNT = 1 << 40  # a sum over millions of classes stays within 64 bits


class FrequencySource(Protocol):
    """Class frequencies, at hand (`ClassFrequency`) or counted when needed (`DeferredFrequency`).

    `len` is C, known before anything is counted; `resolve` gives the counts; messages say `name`.
    """

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def resolve(self) -> ClassFrequency: ...


@dataclass(frozen=True, eq=False)
class ClassFrequency:
    """The counts of C classes over one training set, in contiguous class order.

    Attributes:
        class_names: C names.
        image_count: int64 (C,), images in which each class appears (Eq. 1).
        instance_count: int64 (C,), objects of each class; None where the source has none.
        num_images: images in the set, those without annotations included.

    Raises:
        DataError: arrays of other shapes or types, or counts that cannot be (negative, more images
            of a class than there are images or instances).
    """

    class_names: tuple[str, ...]
    image_count: np.ndarray
    instance_count: np.ndarray | None
    num_images: int

    name = "the given frequencies"

    def __post_init__(self) -> None:
        names = tuple(str(name) for name in self.class_names)
        object.__setattr__(self, "class_names", names)
        object.__setattr__(self, "num_images", int(self.num_images))
        for field in ("image_count", "instance_count"):
            count = getattr(self, field)
            if count is not None:
                object.__setattr__(self, field, _counts(field, count, len(names)))
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

    def __len__(self) -> int:
        return len(self.class_names)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClassFrequency):
            return NotImplemented
        return self.class_names == other.class_names and self.same_counts(other)

    __hash__ = None

    def resolve(self) -> ClassFrequency:
        """Itself: these counts are at hand."""
        return self

    @classmethod
    def from_pairs(
        cls, class_names: Sequence[str], images: np.ndarray, classes: np.ndarray, num_images: int
    ) -> ClassFrequency:
        """Eq. 1 over objects.

        Args:
            images, classes: int64, one an object: the index of its image and of its class.
        """
        pairs = images * len(class_names)
        pairs += classes  # in place, as there may be millions
        pairs.sort()
        pairs = pairs[np.diff(pairs, prepend=-1) != 0]  # an image counts once a class
        return cls(
            class_names,
            np.bincount(pairs % max(len(class_names), 1), minlength=len(class_names)),
            np.bincount(classes, minlength=len(class_names)),
            num_images,
        )

    def same_counts(self, other: ClassFrequency) -> bool:
        """Whether the numbers agree, whatever the classes are called."""
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

    def groups(self, rare: int = 10, common: int = 100) -> np.ndarray:
        """(C,) of "r", "c", "f" by training images: up to `rare`, up to `common`, more (LVIS)."""
        return np.select(
            [self.image_count <= rare, self.image_count <= common], ["r", "c"], default="f"
        )

    def describe(self) -> str:
        """A few words that tell one table from another in a message."""
        return (
            f"{len(self)} classes, {self.num_images:,} images, "
            f"image counts {self.image_count.min()} to {self.image_count.max():,} "
            f"with sum {self.image_count.sum():,}"
        )

    def save(self, path: str | os.PathLike) -> None:
        """Write to a json file, whole or not at all."""
        import msgspec

        from .annotations.schema import FrequencyFile
        from .files import write_atomically

        instances = None if self.instance_count is None else self.instance_count.tolist()
        content = FrequencyFile(
            list(self.class_names), self.image_count.tolist(), instances, self.num_images
        )
        write_atomically(path, msgspec.json.format(msgspec.json.encode(content), indent=1))

    @classmethod
    def load(cls, path: str | os.PathLike) -> ClassFrequency:
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing, cut short or not a frequency file; the message names it.
        """
        from .annotations.decoding import decode_json
        from .annotations.schema import FrequencyFile

        content = decode_json(path, FrequencyFile, "a saved ClassFrequency")
        try:
            return cls(
                tuple(content.class_names),
                content.image_count,
                content.instance_count,
                content.num_images,
            )
        except DataError as error:
            raise DataError(
                f"{os.fspath(path)}: {error}; correct the file, or count the classes again"
            ) from None

    @classmethod
    def sum(cls, parts: Sequence[ClassFrequency]) -> ClassFrequency:
        """The counts of several sets over the same classes, added up.

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
        instances = [part.instance_count for part in parts]
        return cls(
            first.class_names,
            np.sum([part.image_count for part in parts], axis=0),
            None if any(count is None for count in instances) else np.sum(instances, axis=0),
            sum(part.num_images for part in parts),
        )


@dataclass(frozen=True)
class DeferredFrequency:
    """Frequencies that are counted when first needed, so that building a model reads no file.

    Attributes:
        num_classes: C, known beforehand.
        resolve: gives the `ClassFrequency`.
        name: what a message calls them, such as the data set's name.
    """

    num_classes: int
    resolve: Callable[[], ClassFrequency]
    name: str

    def __len__(self) -> int:
        return self.num_classes


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
        if ours[index] in places:
            return (
                f"class {index} is {ours[index]!r} against {theirs[index]!r}, and "
                f"{ours[index]!r} is class {places[ours[index]]} there: the order differs"
            )
    if len(differ) <= len(ours) // 10:
        return None
    index = differ[0]
    return f"class {index} is {ours[index]!r} against {theirs[index]!r}"


# ----- Groups of classes -----


@dataclass(frozen=True)
class Group:
    """Classes with a similar number of training images, as LVIS divides them.

    Attributes:
        name: a word for it.
        most: training images that a class of it has at most; None if there is no such limit.
        color: red, green and blue in [0, 1]; of Okabe and Ito's, which colour-blind readers can
            tell apart.
    """

    name: str
    most: int | None
    color: tuple[float, float, float]


GROUPS = {
    "r": Group("rare", 10, (0.84, 0.37, 0.0)),
    "c": Group("common", 100, (0.0, 0.45, 0.7)),
    "f": Group("frequent", None, (0.0, 0.62, 0.45)),
}

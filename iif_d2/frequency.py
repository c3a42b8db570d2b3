"""How often each class occurs: the image frequency of Eq. 1 and the instance count beside it.

`count_class_frequency` counts a registered data set, an LVIS or COCO json, or Detectron2 dataset
dicts, and gives a `ClassFrequency`, which every method in `iif_d2.methods` is built from.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .annotations.tables import count_table, is_table
from .errors import DataError

logger = logging.getLogger(__name__)

_LARGEST_COUNT = 1 << 40  # a sum over millions of classes stays within 64 bits
PACKAGED_COUNTS = os.path.join(os.path.dirname(__file__), "data", "counts")


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

    def same_counts(self, other: ClassFrequency) -> bool:
        """Whether the numbers agree, whatever the classes are called."""
        return (
            self.num_images == other.num_images
            and np.array_equal(self.image_count, other.image_count)
            and (self.instance_count is None) == (other.instance_count is None)
            and (
                self.instance_count is None
                or np.array_equal(self.instance_count, other.instance_count)
            )
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


def count_class_frequency(
    source: str | os.PathLike | Iterable[dict],
    class_names: Sequence[str] | None = None,
    cache_dir: str | None = None,
) -> ClassFrequency:
    """Count images and instances of each class (Eq. 1).

    Args:
        source: the name of a data set registered with Detectron2, a path to an LVIS or COCO json
            or to a Parquet, CSV or JSON-lines table of labels (counted out of core, see `tables`),
            or a list of Detectron2 dataset dicts. `lvis_v1_train`, `lvis_v0.5_train` and
            `coco_2017_train` need no data on disk: their counts are packaged.
        class_names: for dataset dicts, which carry none, by default "0", "1", ... up to the
            highest category_id; for a table its classes in order, by default sorted.
        cache_dir: where counts of a json are kept, by the file's content; None keeps nothing.

    Raises:
        DataError: the source cannot be counted; the message says which file, which field, and what
            to do.
    """
    if not isinstance(source, (str, os.PathLike)):
        return _count_dicts(source, class_names)
    path = os.fspath(source)
    if is_table(path):
        return ClassFrequency(*count_table(path, class_names))
    if path.endswith(".json") or os.path.isfile(path):
        return _count_json(path, cache_dir)
    return _count_registered(path, cache_dir)


def load_frequency(path: str, cache_dir: str | None = None) -> ClassFrequency:
    """A saved `ClassFrequency`, or the counts of an annotation json, whichever the file holds.

    Raises:
        DataError: it is neither.
    """
    from .annotations.decoding import decode_json
    from .annotations.schema import FormatProbe

    if decode_json(path, FormatProbe, "a json file with class frequencies").format is not None:
        return ClassFrequency.load(path)
    return count_class_frequency(path, cache_dir=cache_dir)


def annotation_file(source: str) -> str | None:
    """The json that counting this source would read; None where it is another kind of source."""
    if is_table(source):
        return None
    if source.endswith(".json") or os.path.isfile(source):
        return source
    try:
        from detectron2.data import MetadataCatalog
    except ImportError:
        return None
    from . import data  # noqa: F401  registers the embedded data sets

    if source not in MetadataCatalog:
        return None
    return getattr(MetadataCatalog.get(source), "json_file", None)


def packaged_frequency(name: str) -> ClassFrequency | None:
    """The counts that come with the package for a data set of this name, or None."""
    path = os.path.join(PACKAGED_COUNTS, f"{name}.json")
    return ClassFrequency.load(path) if os.path.isfile(path) else None


def _count_json(path: str, cache_dir: str | None) -> ClassFrequency:
    if cache_dir is None:
        return _count_labels(path)
    from .files import cached, content_key

    key = content_key(path)
    return cached(
        os.path.join(cache_dir, f"class_frequency_{key}.json"),
        compute=lambda: _count_labels(path),
        load=ClassFrequency.load,
    )


def _count_labels(path: str) -> ClassFrequency:
    from .annotations.reading import read_labels

    labels = read_labels(path)
    names = [category.name for category in labels.categories]
    frequency = _tally(names, labels.images, labels.classes, labels.num_images)
    _compare_with_stated(path, labels.categories, frequency)
    return frequency


def _count_dicts(dicts: Iterable[dict], class_names: Sequence[str] | None) -> ClassFrequency:
    images, classes, num_images = [], [], 0
    for record in dicts:
        for annotation in record.get("annotations", ()):
            images.append(num_images)
            classes.append(annotation["category_id"])
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
    return _tally(class_names, np.asarray(images, dtype=np.int64), classes, num_images)


def _count_registered(name: str, cache_dir: str | None) -> ClassFrequency:
    packaged = packaged_frequency(name)
    try:
        from detectron2.data import DatasetCatalog, MetadataCatalog
    except ImportError:
        if packaged is not None:
            return packaged
        raise DataError(
            f"{name!r} is no file, and without Detectron2 there are no registered data sets"
        ) from None
    from . import data  # noqa: F401  registers the embedded data sets

    if name not in DatasetCatalog:
        raise DataError(
            f"{name!r} is neither a file nor a registered data set; register it with "
            f"iif_d2.register_long_tail_instances, or check the name and the path"
        )
    metadata = MetadataCatalog.get(name)
    known = vars(metadata).get("class_frequency")
    if known is not None:
        return known
    json_file = getattr(metadata, "json_file", None)
    if packaged is not None and not (json_file and os.path.isfile(json_file)):
        return packaged
    if json_file:
        frequency = _count_json(json_file, cache_dir)
        if packaged is not None and not packaged.same_counts(frequency):
            logger.warning(
                "%s has %s; the published %s has %s. The file's counts are used.",
                json_file,
                frequency.describe(),
                name,
                packaged.describe(),
            )
        return frequency
    dicts = DatasetCatalog.get(name)
    class_names = metadata.get("thing_classes")
    if class_names is None:
        raise DataError(
            f"data set {name!r} does not say its classes; "
            f"set MetadataCatalog.get({name!r}).thing_classes"
        )
    return _count_dicts(dicts, class_names)


def _tally(class_names, images: np.ndarray, classes: np.ndarray, num_images: int) -> ClassFrequency:
    """Counts from one (image index, class index) pair an object."""
    num_classes = len(class_names)
    pairs = images * num_classes
    pairs += classes
    pairs.sort()
    pairs = pairs[np.diff(pairs, prepend=-1) != 0]
    return ClassFrequency(
        class_names,
        np.bincount(pairs % max(num_classes, 1), minlength=num_classes),
        np.bincount(classes, minlength=num_classes),
        num_images,
    )


def _compare_with_stated(path: str, categories: list, frequency: ClassFrequency) -> None:
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
            path, len(differ), len(counted), frequency.class_names[differ[0]],
            *stated[differ[0]], *counted[differ[0]],
        )  # fmt: skip


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

    One in ten may be called otherwise: LVIS v1 says "bull" where Detectron2 says "horned_cow".
    """
    if len(ours) != len(theirs):
        return f"{len(ours)} classes against {len(theirs)}"
    differ = [index for index, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1]]
    if len(differ) <= len(ours) // 10:
        return None
    index = differ[0]
    return f"class {index} is {ours[index]!r} against {theirs[index]!r}"

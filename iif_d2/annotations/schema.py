"""The msgspec types of the files this package reads: annotations and saved frequencies.

What Detectron2 trains on is read: 1.0 or true where others write 1, ids as text, "" for nothing.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Raw, Struct

Id = int | float | str  # COCO and LVIS number things; other people's files name them, or have 1.0
Flag = bool | int | float | None
Number = int | float  # as json spells it: Detectron2 gives 5 where the file has 5


class Category(Struct, gc=False):
    """One class. LVIS adds its training statistics, and `frequency` 'r', 'c' or 'f'.

    Statistics of another kind are other people's, and mean nothing here: they become None.
    """

    id: Id
    name: str | bool | int | float
    image_count: Any = None
    instance_count: Any = None
    frequency: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            self.name = str(self.name).lower()  # as json spells it
        self.image_count = _count(self.image_count)
        self.instance_count = _count(self.instance_count)
        self.frequency = self.frequency if self.frequency in ("r", "c", "f") else None


def _count(value: Any) -> int | None:
    number = type(value) in (int, float) and value == value // 1 and value >= 0
    return int(value) if number else None


class CategoryFile(Struct):
    """An annotation file with nothing but its classes."""

    categories: list[Category]


class ImageId(Struct, gc=False):
    id: Id


class Label(Struct, gc=False):
    image_id: Id
    category_id: Id
    iscrowd: Flag = None


class LabelFile(Struct):
    """An annotation file with nothing but its labels."""

    images: list[ImageId]
    annotations: list[Label]
    categories: list[Category]


class Image(Struct, gc=False):
    """One image. LVIS finds it by the end of `coco_url`, COCO by `file_name`."""

    id: Id
    height: Number
    width: Number
    file_name: str | None = None
    coco_url: str | None = None
    neg_category_ids: list[Id] | None = None
    not_exhaustive_category_ids: list[Id] | None = None

    def __post_init__(self) -> None:
        for side in ("height", "width"):
            value = getattr(self, side)
            if value != value // 1:
                raise ValueError(f"{side} is {value}, and pixels are whole")
            setattr(self, side, int(value))


class ImageFile(Struct):
    """An annotation file with its images and classes; of the objects, whether there are any."""

    images: list[Image]
    categories: list[Category]
    annotations: Raw = Raw(b"")


class Rle(Struct, gc=False):
    """A run-length mask: `size` is (height, width); `counts` compressed text or plain runs."""

    size: tuple[int, int]
    counts: str | list[int]


class Annotation(Struct, gc=False):
    """One object. `bbox` is x, y, width, height in pixels; the mask is left as text.

    A box with a number that is missing (NaN, null) counts as empty.
    """

    image_id: Id
    category_id: Id
    bbox: tuple[float | None, float | None, float | None, float | None]
    id: Id | bool | None = None
    area: float | None = None
    iscrowd: Flag = None
    ignore: Any = None  # LVIS's; evaluation alone looks at it
    segmentation: Raw = Raw(b"null")
    keypoints: list[Number] | Literal[""] | None = None


class Mask(Struct, gc=False):
    """One object's mask."""

    segmentation: list[list[Number]] | Rle | Literal[0] | None = None


class AnnotationFile(Struct):
    """The texts of an annotation file. Those of test sets have no annotations."""

    images: list[Raw]
    categories: list[Category]
    annotations: list[Raw] = []


class DatasetAnnotation(Struct, gc=False):
    """One object that was checked, with its numbers and its mask as the file has them."""

    category_id: Id
    bbox: list[Number | None]
    area: float | None = None
    iscrowd: Flag = None
    ignore: Any = None
    segmentation: Any = None  # list[list[Number]] | dict[str, Any] | None
    keypoints: list[Number] | Literal[""] | None = None

    def __post_init__(self) -> None:
        if None in self.bbox:
            self.bbox = [0, 0, 0, 0]
        if isinstance(self.iscrowd, (bool, float)):
            self.iscrowd = int(bool(self.iscrowd))
        self.segmentation = self.segmentation or None
        if self.keypoints == "":
            self.keypoints = None


class AnnotatedImage(Struct):
    """One image and its objects."""

    image: Image
    annotations: list[DatasetAnnotation]


class FormatProbe(Struct):
    """Tells a saved `ClassFrequency`, which has a format, from an annotation file."""

    format: str | None = None


class FrequencyFile(Struct, tag_field="format", tag="iif_d2.ClassFrequency", omit_defaults=True):
    """What `ClassFrequency.save` writes."""

    class_names: list[str]
    image_count: list[int]
    instance_count: list[int] | None
    num_images: int
    dimension: list[float] | None = None
    groups: str | None = None  # a letter a class: r, c or f

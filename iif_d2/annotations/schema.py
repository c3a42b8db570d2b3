"""The msgspec types of the files this package reads: annotations and saved frequencies."""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct

Id = int | str  # COCO and LVIS number their images; other people's files name them
Number = int | float  # as json spells it: Detectron2 gives 5 where the file has 5


class Category(Struct, gc=False):
    """One class. LVIS adds its training statistics, and `frequency` 'r', 'c' or 'f'."""

    id: int
    name: str
    image_count: int | None = None
    instance_count: int | None = None
    frequency: str | None = None


class CategoryFile(Struct):
    """An annotation file with nothing but its classes."""

    categories: list[Category]


class ImageId(Struct, gc=False):
    id: Id


class Label(Struct, gc=False):
    image_id: Id
    category_id: int


class LabelFile(Struct):
    """An annotation file with nothing but its labels."""

    images: list[ImageId]
    annotations: list[Label]
    categories: list[Category]


class Image(Struct, gc=False):
    """One image. LVIS finds it by the end of `coco_url`, COCO by `file_name`."""

    id: Id
    height: int
    width: int
    file_name: str | None = None
    coco_url: str | None = None
    neg_category_ids: list[int] | None = None
    not_exhaustive_category_ids: list[int] | None = None


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
    """One object. `bbox` is x, y, width, height in pixels; the mask is left as text."""

    image_id: Id
    category_id: int
    bbox: tuple[float, float, float, float]
    id: int | None = None
    area: float | None = None
    iscrowd: int | None = None
    ignore: Any = None  # LVIS's; evaluation alone looks at it
    segmentation: Raw = Raw(b"null")
    keypoints: list[Number] | None = None


class Mask(Struct, gc=False):
    """One object's mask."""

    segmentation: list[list[Number]] | Rle | None = None


class AnnotationFile(Struct):
    """The texts of an annotation file. Those of test sets have no annotations."""

    images: list[Raw]
    categories: list[Category]
    annotations: list[Raw] = []


class DatasetAnnotation(Struct, gc=False):
    """One object that was checked, with its numbers and its mask as the file has them."""

    category_id: int
    bbox: list[Number]
    area: float | None = None
    iscrowd: int | None = None
    ignore: Any = None
    segmentation: list[list[Number]] | dict[str, Any] | None = None
    keypoints: list[Number] | None = None


class AnnotatedImage(Struct):
    """One image and its objects."""

    image: Image
    annotations: list[DatasetAnnotation]


class FormatProbe(Struct):
    """Tells a saved `ClassFrequency`, which has a format, from an annotation file."""

    format: str | None = None


class FrequencyFile(Struct, tag_field="format", tag="iif_d2.ClassFrequency"):
    """What `ClassFrequency.save` writes."""

    class_names: list[str]
    image_count: list[int]
    instance_count: list[int] | None
    num_images: int
    groups: str | None = None  # a letter a class: r, c or f

"""The msgspec types of the files this package reads: LVIS/COCO annotations and saved frequencies.

Apart from `annotations.py` because defining them needs msgspec, which `frequency.py` imports late.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from msgspec import Raw, Struct

Id = int | str  # COCO and LVIS number their images; other people's files name them
Number = int | float  # as json spells it: Detectron2 gives 5 where the file has 5
AnId = TypeVar("AnId", Id, int)


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


class ImageLabel(Struct, Generic[AnId], gc=False):
    id: AnId


class Label(Struct, Generic[AnId], gc=False):
    image_id: AnId
    category_id: int


class LabelFile(Struct, Generic[AnId]):
    """An annotation file with nothing but its labels; AnId is int where every id is a number."""

    images: list[ImageLabel[AnId]]
    annotations: list[Label[AnId]]
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


class IndexFile(Struct):
    """An annotation file with its images and classes, and no objects."""

    images: list[Image]
    categories: list[Category]


class Rle(Struct, gc=False):
    """A run-length mask: `size` is (height, width); `counts` compressed text or plain runs."""

    size: tuple[int, int]
    counts: str | list[int]


class Annotation(Struct, gc=False):
    """One object. `bbox` is x, y, width, height in pixels."""

    image_id: Id
    category_id: int
    bbox: tuple[Number, Number, Number, Number]
    id: int | None = None
    area: float | None = None
    iscrowd: int | None = None
    segmentation: list[list[Number]] | Rle | None = None
    keypoints: list[Number] | None = None


class AnnotationFile(Struct):
    """An annotation file with all that training and evaluation need."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


class FormatProbe(Struct):
    """Tells a saved `ClassFrequency`, which has a format, from an annotation file."""

    format: str | None = None


class IndexedAnnotation(Annotation, gc=False):
    """The same with the mask's text."""

    segmentation: Raw = Raw(b"")


class IndexedFile(Struct):
    """An annotation file with the images' texts, and whatever is in the place of its objects."""

    images: list[Raw]
    categories: list[Category]
    annotations: list[Raw] = []


class DecodedAnnotation(Struct, gc=False):
    """One object that was checked, its mask as the file has it."""

    category_id: int
    bbox: list[Number]
    area: float | None = None
    iscrowd: int | None = None
    segmentation: list[list[Number]] | dict[str, Any] | None = None
    keypoints: list[Number] | None = None


class ImageItem(Struct):
    """One image and its objects."""

    image: Image
    annotations: list[DecodedAnnotation]


class EvaluationFile(Struct):
    """An annotation file to score against. Those of test sets come without annotations."""

    images: list[Image]
    categories: list[Category]
    annotations: list[Annotation] = []


class FrequencyFile(Struct, tag_field="format", tag="iif_d2.ClassFrequency"):
    """What `ClassFrequency.save` writes."""

    class_names: list[str]
    image_count: list[int]
    instance_count: list[int] | None
    num_images: int

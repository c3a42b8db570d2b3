"""An LVIS or COCO json kept as text, and made into objects image by image."""

from __future__ import annotations

import time
import weakref
from dataclasses import dataclass

import msgspec
import numpy as np
import torch

from .schema import Annotation, Category, Id, ImageItem

__all__ = ["AnnotationIndex", "Doubtful", "live_index"]

_live: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
_decode_item = msgspec.json.Decoder(ImageItem).decode


@dataclass(frozen=True)
class Doubtful:
    """Annotations that nothing can be learned from: how many, and the place of the first."""

    count: int
    index: int
    first: Annotation


@dataclass(eq=False)
class AnnotationIndex:
    """N images in the order of their ids, numbers first, and their M annotations, image by image.

    Attributes:
        path: the file.
        key: tells it from another file, or from itself when it has changed; None if unknown.
        categories: as the file lists them.
        image_ids: of each image.
        positions: int64 (N,), their places in the file.
        sizes: int64 (N, 2), height and width in pixels.
        negatives: bool (N,), whether `neg_category_ids` is there.
        located: bool (N,), whether `file_name` or `coco_url` is there.
        first: int64 (N + 1,), where each image's annotations begin.
        classes: int64 (M,), the category's place in the order of ids.
        crowds: bool (M,).
        without_area: bool (M,).
        unusable: bool (M,), those with a mask that has no polygon of three points.
        masks: whether any annotation has one.
        repeated_id: the first annotation's place in the file whose id another has, and the id.
        odd_boxes, odd_polygons: what Detectron2 leaves out, if there is any.
    """

    path: str
    key: tuple | None
    categories: list[Category]
    image_ids: list[Id]
    positions: np.ndarray
    sizes: np.ndarray
    negatives: np.ndarray
    located: np.ndarray
    first: np.ndarray
    classes: np.ndarray
    crowds: np.ndarray
    without_area: np.ndarray
    unusable: np.ndarray
    masks: bool
    repeated_id: tuple[int, int] | None
    odd_boxes: Doubtful | None
    odd_polygons: Doubtful | None
    # A tensor, which worker processes share however they are started.
    content: torch.Tensor
    image_spans: np.ndarray
    spans: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self.remember()

    def remember(self) -> None:
        """Let `live_index` find it, as long as anything else uses it."""
        # A file that was written just now may be written again within the clock's resolution.
        if self.key is not None and time.time_ns() - self.key[-1] > 2e9:
            _live[self.key] = self

    def item(self, index: int) -> ImageItem:
        """The image at this place with its annotations, made anew."""
        content = memoryview(self.content.numpy())
        start, end = self.image_spans[index]
        own = self.spans[self.first[index] : self.first[index + 1]].tolist()
        listed = b",".join([content[begin:stop] for begin, stop in own])
        text = b'{"image":%b,"annotations":[%b]}' % (content[start:end], listed)
        return _decode_item(text)

    def images_of(self) -> np.ndarray:
        """int64 (M,): the image of each annotation."""
        return np.repeat(np.arange(len(self)), np.diff(self.first))


def live_index(key: tuple | None) -> AnnotationIndex | None:
    """The index of the file with this key, if one is in use."""
    return _live.get(key)

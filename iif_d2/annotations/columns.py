"""What is kept of an annotation file: columns of numbers, and each image's and object's text."""

from __future__ import annotations

import functools
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np
import torch

from .schema import AnnotatedImage, Category, Id, Image

__all__ = ["Annotations", "ClassLabels", "Texts", "crowds_only", "live_annotations"]

_BLOCK = 4096  # texts joined at a time
_live: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
_decode_item = msgspec.json.Decoder(AnnotatedImage).decode


class ClassLabels(NamedTuple):
    """Which image holds which class.

    Attributes:
        categories: in the order of their ids.
        images, classes: int64 (M,) each, the places of M annotations' images and categories.
        crowds: bool (M,).
        num_images: images in the file.
    """

    categories: list[Category]
    images: np.ndarray
    classes: np.ndarray
    crowds: np.ndarray
    num_images: int


def crowds_only(classes: np.ndarray, crowds: np.ndarray, num_classes: int) -> np.ndarray:
    """bool (C,): classes with objects of which each is a crowd, so that none is learnt from.

    Args:
        classes, crowds: int64 and bool (M,), of M objects.
    """
    single = np.bincount(classes[~crowds], minlength=num_classes)
    return (np.bincount(classes, minlength=num_classes) > 0) & (single == 0)


class Texts:
    """N json texts as tensors, which worker processes share however they are started."""

    def __init__(self, texts: Sequence, first: np.ndarray) -> None:
        """Text i is texts[first[i]:first[i + 1]] with commas between; `first` is int64 (N + 1,)."""
        ends = np.cumsum([0, *map(len, texts)]) + np.arange(len(texts) + 1)  # a comma behind each
        content = np.empty(ends[-1], dtype=np.uint8)
        for start in range(0, len(texts), _BLOCK):
            block = b"%b," % b",".join(texts[start : start + _BLOCK])
            content[ends[start] : ends[start] + len(block)] = np.frombuffer(block, dtype=np.uint8)
        self._content, self._starts = torch.from_numpy(content), torch.from_numpy(ends[first])

    def __getitem__(self, index: int) -> bytes:
        start, end = self._starts[index : index + 2].tolist()
        return self._content.numpy()[start:end].tobytes()[:-1]


@dataclass(eq=False)
class Annotations:
    """N images in the order of their ids, numbers first, and their M annotations in that order."""

    path: str
    key: tuple | None  # tells the file from others, and from itself when it has changed
    categories: list[Category]  # in the order of their ids
    image_ids: list[Id]
    sizes: np.ndarray  # int64 (N, 2), height and width in pixels
    negatives: np.ndarray  # bool (N,), whether `neg_category_ids` is there
    first: np.ndarray  # int64 (N + 1,), where each image's annotations begin
    classes: np.ndarray  # int64 (M,), the category's place
    crowds: np.ndarray  # bool (M,)
    ignored: np.ndarray  # bool (M,), LVIS's `ignore`
    without_area: np.ndarray  # bool (M,)
    unusable: np.ndarray  # bool (M,), a mask without a polygon of three points
    has_masks: bool
    unlocated: tuple[int, Image] | None  # the first of no file on disk, and its place
    repeated_id: tuple[int, Id] | None  # the first annotation's, after its place in the json
    doubts: list[str]  # what Detectron2 leaves out
    image_texts: Texts
    object_texts: Texts  # of each image

    def __len__(self) -> int:
        return len(self.image_ids)

    def item(self, index: int) -> AnnotatedImage:
        """The image at this place with its annotations, made anew."""
        texts = self.image_texts[index], self.object_texts[index]
        return _decode_item(b'{"image":%b,"annotations":[%b]}' % texts)

    def remember(self) -> None:
        """Let `live_annotations` find this, as long as anything else uses it."""
        # A file that was written just now may be written again within the clock's resolution.
        if self.key is not None and time.time_ns() - self.key[-1] > 2e9:
            _live[self.key] = self

    @functools.cached_property
    def _tensors(self) -> dict[str, torch.Tensor]:
        """The arrays, for other processes: torch shares the memory of a tensor while it lives."""
        arrays = {key: v for key, v in vars(self).items() if isinstance(v, np.ndarray)}
        return {key: torch.from_numpy(array) for key, array in arrays.items()}

    def __getstate__(self) -> dict:
        tensors = self._tensors
        return {**vars(self), **tensors}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        vars(self).update((key, tensor.numpy()) for key, tensor in self._tensors.items())
        self.remember()


def live_annotations(key: tuple | None) -> Annotations | None:
    """Those of the file with this key, if they are in use."""
    return _live.get(key)

"""Sizes, boxes and masks of an annotation file, checked before a library draws them.

COCO's C code follows a polygon pixel by pixel, allocates what `size` says and counts in 32 bits: a
vertex a billion pixels away or a wrong `size` would cost all memory, or write past its buffers.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from ..errors import DataError
from .schema import Annotation, Rle

_LONGEST_SIDE = 1 << 17  # pixels; no picture that can be read is longer
_MOST_PIXELS = (1 << 31) - 1
FARTHEST = 1e7  # pixels from the corner that a box may lie


def check_geometry(path: str | os.PathLike, content: Any) -> None:
    """Raise `DataError` unless every image has a size, and boxes and masks are drawn in its pixels.

    `content` has `images` and `annotations`, as the schema's files do, with sound references. Boxes
    and polygons may leave the image, as rounding makes them, but by no more than its longer side.
    """
    path = os.fspath(path)
    sizes = {}
    for index, image in enumerate(content.images):
        height, width = sizes[image.id] = image.height, image.width
        if not sound_sizes(np.array([[height, width]], dtype=object)):
            raise DataError(
                f"{path}: images[{index}] (id {image.id!r}) has height {height} and width {width}; "
                f"correct them"
            )
    for index, annotation in enumerate(content.annotations):
        problem = annotation_problem(annotation, *sizes[annotation.image_id])
        if problem:
            raise DataError(
                f"{path}: annotations[{index}].{problem} (id {annotation.id}, image_id "
                f"{annotation.image_id!r}); mend or remove the annotation"
            )


def sound_sizes(sizes: np.ndarray) -> bool:
    """Whether images may have these heights and widths, (N, 2)."""
    area = sizes[:, 0] * sizes[:, 1]
    return bool(((sizes > 0) & (sizes <= _LONGEST_SIDE)).all() and (area <= _MOST_PIXELS).all())


def annotation_problem(annotation: Annotation, height: int, width: int) -> str | None:
    """A field, and what is wrong with it; None if the annotation can be drawn."""
    if not all(abs(value) <= FARTHEST for value in annotation.bbox):
        return f"bbox {list(annotation.bbox)} is not in pixels"
    if annotation.area is not None and not 0 <= annotation.area < math.inf:
        return f"area is {annotation.area}"
    segmentation = annotation.segmentation
    if isinstance(segmentation, Rle):
        if tuple(segmentation.size) != (height, width):
            return (
                f"segmentation has size {list(segmentation.size)} in an image of height {height} "
                f"and width {width}"
            )
        if not covers(segmentation.counts, height * width):
            return f"segmentation has counts that are not the runs of {height * width} pixels"
        return None
    reach = max(height, width)
    for polygon in segmentation or ():
        if len(polygon) and not (-reach <= min(polygon) and max(polygon) <= 2 * reach):
            return "segmentation has a polygon that lies far outside the image"
    return None


def covers(counts: str | list[int], pixels: int) -> bool:
    """Whether the run lengths of a mask, plain or as COCO's string, are those of so many pixels."""
    if isinstance(counts, str):
        lengths = _run_lengths(counts)
        if lengths is None:
            return False
    else:
        lengths = counts
    return all(length >= 0 for length in lengths) and sum(lengths) == pixels


def _run_lengths(text: str) -> list[int] | None:
    """The lengths in COCO's string; None if it is none. `evaluation/rle.py` writes the format."""
    letters = np.frombuffer(text.encode(errors="replace"), dtype=np.uint8).astype(np.int64) - 48
    if not len(letters):
        return []
    last = letters < 32
    if letters.min() < 0 or letters.max() > 63 or not last[-1]:
        return None
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(letters)) - np.repeat(starts, ends - starts + 1)
    if place.max() > 6:  # 32 bits are in seven letters
        return None
    values = np.add.reduceat((letters & 31) << 5 * place, starts)
    values -= np.where(letters[ends] & 16, 1 << 5 * (place[ends] + 1), 0)
    # From the fourth on, each is the difference from the one before last.
    for first in (1, 2):
        values[first::2] = np.cumsum(values[first::2])
    return values.tolist()

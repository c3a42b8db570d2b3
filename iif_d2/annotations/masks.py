"""Masks of an annotation file, checked before a library draws them.

COCO's C code follows a polygon pixel by pixel, allocates what `size` says and counts in 32 bits: a
vertex a billion pixels away or a wrong `size` would cost all memory, or write past its buffers.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import numpy as np

from .schema import Number, Rle

# A polygon of three points or more without its numbers, and a mask of such polygons or none.
_POLYGON = rb"\[,{5}(?:,,)*\]"
_OUTLINE = re.compile(rb"\[%b(?:,%b)*\]|null|\"\"|false|\{\}" % (_POLYGON, _POLYGON))
_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
PLAIN_BELOW = 1000  # pixels


def plain_masks(texts: Sequence) -> list[bool | None]:
    """Whether each of these valid json texts is a mask; None where it has to be decoded.

    Judged as text, in a tenth of the time, are null (or "", {}, false) and polygons of three points
    or more with coordinates from 0 to below `PLAIN_BELOW`.
    """
    numbers = b"\0".join(texts).translate(_ZEROS)
    outlines = numbers.translate(None, b"0. \t\r\n").split(b"\0")
    judged = list(map(_there, outlines)) if texts else []
    if numbers.rfind(b"0000") >= 0:  # which takes half the time of `in`
        for place, number in enumerate(numbers.split(b"\0")):
            if b"0000" in number:
                judged[place] = None
    return judged


@functools.lru_cache(1 << 14)
def _there(outline: bytes) -> bool | None:
    return b"," in outline if _OUTLINE.fullmatch(outline) else None


def mask_problem(mask: list[list[Number]] | Rle | None, height: int, width: int) -> str | None:
    """What is wrong with an object's mask in an image of this size; None if it can be drawn.

    Polygons may leave the image, as rounding makes them, but by no more than its longer side.
    """
    if isinstance(mask, Rle):
        if mask.size != (height, width):
            return f"has size {list(mask.size)} in an image of height {height} and width {width}"
        if not covers(mask.counts, height * width):
            return f"has counts that are not the runs of {height * width} pixels"
        return None
    reach = max(height, width)
    for polygon in mask or ():
        if polygon and not (-reach <= min(polygon) and max(polygon) <= 2 * reach):
            return "has a polygon that lies far outside the image"
    return None


def drawn_polygons(polygons: list[list]) -> list[list]:
    """Those with three points or more."""
    return [p for p in polygons if len(p) % 2 == 0 and len(p) >= 6]


def covers(counts: str | list[int], pixels: int) -> bool:
    """Whether the run lengths of a mask, plain or as COCO's string, are those of so many pixels."""
    lengths = _run_lengths(counts) if isinstance(counts, str) else counts
    if lengths is None:
        return False
    return all(length >= 0 for length in lengths) and sum(lengths) == pixels


def _run_lengths(text: str) -> list[int] | None:
    """The lengths in COCO's string; None if it is none."""
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

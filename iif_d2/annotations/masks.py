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

# A polygon of three points or more without its numbers, and a mask of such polygons.
_POLYGON = rb"\[,{5}(?:,,)*\]"
_OUTLINE = re.compile(rb"\[%b(?:,%b)*\]" % (_POLYGON, _POLYGON)).fullmatch
_NONE = (b"null", b'""', b"false", b"{}")
_FOUR_DIGITS = re.compile(rb"\d{4}").search
PLAIN_BELOW = 1000  # pixels


def plain_masks(texts: Sequence) -> np.ndarray:
    """int8 (N,) for valid json texts: 1 a mask, 0 none, -1 has to be decoded to be judged.

    Judged as text, in a tenth of the time, are null (or "", {}, false) and polygons of three points
    or more with coordinates from 0 to below `PLAIN_BELOW`.
    """
    joined = b"\0".join(texts)
    outlines = joined.translate(None, b"0123456789. \t\r\n").split(b"\0")[: len(texts)]
    judged = np.fromiter(map(_judged, outlines), np.int8, len(texts))
    digits = np.frombuffer(joined, np.uint8) - ord("0") < 10
    pairs = digits[1:] & digits[:-1]
    if (pairs[2:] & pairs[:-2]).any():
        judged[[_FOUR_DIGITS(text) is not None for text in texts]] = -1
    return judged


@functools.lru_cache(1 << 14)
def _judged(outline: bytes) -> int:
    return 1 if _OUTLINE(outline) else 0 if outline in _NONE else -1


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

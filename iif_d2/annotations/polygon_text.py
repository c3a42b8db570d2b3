"""Json texts of masks, judged as bytes: turning millions of polygons into floats costs seconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["coordinate_bounds"]

_DIGIT, _POINT, _COMMA, _OPEN, _CLOSE = b"0.,[]"
_FEWEST_COMMAS = 5  # three points


def coordinate_bounds(texts: Sequence) -> np.ndarray:
    """For each valid json text, in bytes, a number that all coordinates of its polygons are below.

    float64 (N,): 1000 or 10000 where the text is a list of polygons of three points or more, all
    coordinates plain numbers of no sign; 0 where it says that there is no mask (empty, [] or null);
    inf for anything else, which has to be decoded to be judged.
    """
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    text = np.frombuffer(b"".join(texts), dtype=np.uint8)
    ends = np.cumsum(sizes)
    bounds = _plain_bounds(text, ends - sizes, ends)
    first = np.zeros(len(texts), dtype=np.uint8)
    first[sizes > 0] = text[(ends - sizes)[sizes > 0]]
    # No other json of two bytes begins with a bracket, or of any with an n.
    bounds[(sizes == 0) | (sizes == 2) & (first == _OPEN) | (first == ord("n"))] = 0
    return bounds


def _plain_bounds(text: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """1000, 10000 or inf for each of the texts, which lie one behind the other."""
    digit, point, comma = text - _DIGIT < 10, text == _POINT, text == _COMMA
    bracket = (text == _OPEN) | (text == _CLOSE)
    white = text <= ord(" ")
    # A valid text of these bytes alone is of lists and plain numbers.
    other = _owners(~(digit | point | comma | bracket | white), ends)
    plain = np.ones(len(ends), dtype=bool)
    plain[other] = False

    where = np.flatnonzero(bracket)
    owner = np.searchsorted(ends, where, side="right")
    where, owner = where[plain[owner]], owner[plain[owner]]
    opens = text[where] == _OPEN
    depth = np.cumsum(np.where(opens, 1, -1))  # zero after each text
    plain[owner[depth > 2]] = False
    # Where nothing is deeper, what follows the opening of a polygon is its end.
    polygon = np.flatnonzero(opens & (depth == 2))
    polygon = polygon[plain[owner[polygon]]]
    commas = np.flatnonzero(comma)
    inside = np.searchsorted(commas, where[polygon + 1]) - np.searchsorted(commas, where[polygon])
    of = owner[polygon]
    plain[of[(inside < _FEWEST_COMMAS) | (inside % 2 == 0)]] = False
    # A list of k things has k - 1 commas: with one between two polygons there is nothing else.
    polygons = np.bincount(of, minlength=len(ends))
    between = np.searchsorted(commas, ends) - np.searchsorted(commas, starts)
    between = between - np.bincount(of, inside, minlength=len(ends))
    plain &= (polygons > 0) & (between == polygons - 1)

    # Where a number begins: a digit after neither a digit nor a point. A text ends in a bracket.
    begins = digit[1:] & ~(digit | point)[:-1]
    four = np.zeros_like(digit)
    four[1:-3] = begins[:-3] & digit[2:-2] & digit[3:-1] & digit[4:]
    four = np.flatnonzero(four)
    five = four[digit[np.minimum(four + 4, len(text) - 1)]]
    bounds = np.full(len(ends), 1000.0)
    bounds[np.searchsorted(ends, four, side="right")] = 10_000
    bounds[np.searchsorted(ends, five, side="right")] = np.inf
    bounds[~plain] = np.inf
    return bounds


def _owners(mask: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The texts that these bytes belong to."""
    return np.searchsorted(ends, np.flatnonzero(mask), side="right")

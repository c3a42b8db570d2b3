"""Pictures that are there twice: the same bytes, or nearly the same to look at."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import DataError
from ..files.pictures import look_at

_SIDE = 16  # of the small grey picture whose neighbours are compared: 256 answers
# Two of 1,004 street photographs differ in 59 or more, or are of one scene; of a picture and itself
# at half the size 99% differ in 10 or fewer, at a jpeg quality of 30 in 20.
_MOST_DIFFERENT = 24
_BLOCK = 2048  # pictures compared with as many at a time
_CHUNK = 1 << 20


def same_bytes(paths: Sequence[str]) -> list[list[int]]:
    """The places of files with equal content, a list for each content; missing files are in none.

    Only files of one size are read.
    """
    by_size: dict[int, list[int]] = defaultdict(list)
    for place, path in enumerate(paths):
        if os.path.isfile(path):
            by_size[os.path.getsize(path)].append(place)
    doubted = [place for places in by_size.values() if len(places) > 1 for place in places]
    found: dict[str, list[int]] = defaultdict(list)
    for place in tqdm(doubted, "comparing files", delay=2, unit="file"):
        found[_digest(paths[place])].append(place)
    return sorted(places for places in found.values() if len(places) > 1)


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def near_duplicates(paths: Sequence[str]) -> np.ndarray:
    """int64 (N,): a number a group of pictures that look nearly the same, for N files.

    By the difference hash: is each pixel of the picture in 17 x 16 grey pixels brighter than its
    left neighbour? Pictures are near-duplicates if at most 24 of 256 answers differ, and all that
    are so in a chain are one group, which has its first picture's place as number. A picture that
    has the same answer nearly everywhere, such as a plain wall, is in a group of its own.

    Every picture is compared with every other: three minutes for 100,000 of them on one core.

    Raises:
        DataError: a picture cannot be read.

    Examples:
        >>> picture = "my/images/train2017/000000000007.png"
        >>> near_duplicates([picture, picture])
        array([0, 0])
    """
    bar = tqdm(paths, "looking at pictures", delay=2, unit="picture")
    answers = np.array([_answers(path) for path in bar], dtype=bool).reshape(len(paths), -1)
    groups = np.arange(len(paths))
    signs = np.where(answers, np.float32(1), np.float32(-1))
    plain = np.abs(signs.sum(1)) >= signs.shape[1] - 2 * _MOST_DIFFERENT
    starts = range(0, len(paths), _BLOCK)
    for start in tqdm(starts, "comparing pictures", delay=2, unit="block"):
        rows = slice(start, start + _BLOCK)
        for other in range(start, len(paths), _BLOCK):
            columns = slice(other, other + _BLOCK)
            different = (signs.shape[1] - signs[rows] @ signs[columns].T) / 2
            close = (different <= _MOST_DIFFERENT) & ~plain[rows, None] & ~plain[columns]
            close &= groups[rows, None] != groups[columns]
            for row in np.flatnonzero(close.any(1)).tolist():
                joined = np.append(groups[columns][close[row]], groups[start + row])
                groups[np.isin(groups, joined)] = joined.min()
    return groups


def _answers(path: str) -> np.ndarray:
    """bool (256,)"""
    try:
        look_at(path, f"picture {path}")
        with Image.open(path) as image:
            image.draft("L", (8 * _SIDE, 8 * _SIDE))  # jpeg: decodes an eighth of each side
            grey = image.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.LANCZOS)
    except DataError:
        raise
    except Exception as error:  # as many kinds as there are ways to break a file
        raise DataError(f"picture {path} cannot be read: {error}; copy it again") from None
    pixels = np.asarray(grey)
    return (pixels[:, 1:] > pixels[:, :-1]).ravel()

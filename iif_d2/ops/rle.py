"""Compressed COCO run lengths of many masks at once, from where their runs begin and end."""

from __future__ import annotations

import numpy as np

__all__ = ["encode_runs"]


def encode_runs(
    owner: np.ndarray, start: np.ndarray, end: np.ndarray, num_masks: int, height: int, width: int
) -> list[dict]:
    """The dicts that `pycocotools.mask.encode` would return, with `counts` a str.

    Args:
        owner: (K,) the mask that each run of pixels belongs to, in [0, num_masks).
        start, end: (K,) its first pixel and the one after its last, as column * height + row.
            Runs are not empty. They may touch, or overlap the one before by a pixel.
        num_masks: how many dicts to return. Masks without runs are all background.
        height, width: the masks' size in pixels.
    """
    if not num_masks:
        return []
    pixels = height * width
    order = np.argsort(owner * np.int64(pixels) + start)
    owner, start, end = owner[order], start[order], end[order]
    apart = np.ones(len(owner) + 1, dtype=bool)
    apart[1:-1] = (owner[1:] != owner[:-1]) | (start[1:] > end[:-1])
    owner, start, end = owner[apart[:-1]], start[apart[:-1]], end[apart[1:]]
    return _compress(*_counts(owner, start, end, num_masks, pixels), height, width)


def _counts(
    owner: np.ndarray, start: np.ndarray, end: np.ndarray, num_masks: int, pixels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of background and foreground runs in turn, of all masks, and how many each has."""
    owner = np.repeat(owner, 2)
    changes = np.stack([start, end], 1).ravel()
    sizes = np.bincount(owner, minlength=num_masks) + 1
    lasts = np.cumsum(sizes) - 1
    # A mask's lengths are the differences of its changes, between 0 and the number of pixels.
    edges = np.full(sizes.sum(), pixels)
    edges[np.arange(len(changes)) + owner] = changes
    lengths = np.diff(edges, prepend=0)
    lengths[lasts[:-1] + 1] = edges[lasts[:-1] + 1]
    # COCO leaves out a background of no pixels at the end, though not at the beginning.
    ended = lengths[lasts] == 0
    return np.delete(lengths, lasts[ended]), sizes - ended


def _compress(lengths: np.ndarray, sizes: np.ndarray, height: int, width: int) -> list[dict]:
    """COCO's string: of each length, from the fourth less the one before last, 5 bits a letter."""
    position = np.arange(len(lengths)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    values = lengths.copy()
    values[2:] -= np.where(position[2:] > 2, lengths[:-2], 0)
    # As many letters as leave the sign in the highest bit of the last one.
    letters = np.ones(len(values), dtype=np.int64)
    bits = 4
    while (more := (values >= 1 << bits) | (values < -(1 << bits))).any():
        letters += more
        bits += 5
    place = np.arange(letters.max(initial=1))
    codes = (values[:, None] >> 5 * place & 31) + np.where(place < letters[:, None] - 1, 80, 48)
    text = codes[place < letters[:, None]].astype(np.uint8).tobytes().decode("ascii")
    ends = np.cumsum(np.add.reduceat(letters, np.cumsum(sizes) - sizes))
    starts = [0, *ends[:-1]]
    return [
        {"size": [height, width], "counts": text[start:end]} for start, end in zip(starts, ends)
    ]

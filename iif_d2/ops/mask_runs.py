"""The runs of pixels in which a predicted mask, pasted into its image, reaches a threshold.

Along a column of pixels the bilinear interpolation of an M x M mask is piecewise linear between
M + 2 nodes, the outermost being zero. So between two nodes it meets the threshold at most once, at
a known height, and a column costs M steps whatever the box's height.

Exactness: Detectron2's pixel values, of a float32 `grid_sample` at float32 coordinates, differ from
the interpolation by less than `rounding_error`. Where nodes are further than that from the
threshold, so is everything between two of them on one side, and where a segment crosses, the
distance grows linearly from the crossing: all but one pixel next to it are certain, and that one is
computed by `grid_sample` with Detectron2's operations. So are all pixels of a column with a node in
doubt, or with a segment so flat that several pixels are. Masks with many such columns are left to
Detectron2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Crops", "find_runs", "rounding_error"]

_CHUNK = 4096  # columns at a time: their nodes stay in a processor's cache


class Crops(NamedTuple):
    """N boxes in float64, (4, N), and for each the pixels that Detectron2 tests, (N,) each."""

    box: np.ndarray
    finite: np.ndarray
    ordinary: np.ndarray  # neither inverted nor nearly empty
    left: np.ndarray
    top: np.ndarray
    right: np.ndarray
    bottom: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        """Boxes with any such pixel in the image."""
        return self.finite & (self.left < self.right) & (self.top < self.bottom)

    @classmethod
    def of(cls, boxes: Tensor, size: int, height: int, width: int, skip_empty: bool) -> Crops:
        """Where Detectron2 tests size x size masks in (N, 4) boxes.

        With `skip_empty`, as on a CPU, the pixels around the box; else those of the whole image: a
        mask that is not zero at its edge reaches half a node beyond the box.
        """
        box = boxes.cpu().numpy().astype(np.float64).T
        finite = np.all(np.isfinite(box), axis=0)
        box = np.where(finite, box, 0)
        low, high = box[:2], box[2:]
        sides = high - low
        reach = 0 if skip_empty else np.abs(sides) / (2 * size)
        limit = [[width], [height]]
        first = np.clip(np.floor(low - reach) - 1, 0, limit).astype(np.int64)
        last = np.clip(np.ceil(high + reach) + 1, 0, limit).astype(np.int64)
        return cls(box, finite, finite & (sides > 1e-3).all(axis=0), *first, *last)


def rounding_error(masks: Tensor) -> float:
    """More than Detectron2's pixel values are from ours, for boxes of positive sides.

    Coordinates come of seven float32 roundings of numbers up to 2 M: off by less than M * 4e-7
    nodes. In either direction values change by at most twice the largest per node; the weighted
    sums of both sides add less than 2e-6 of it.
    """
    return 2e-6 * (masks.shape[1] + 1) * float(masks.abs().amax().nan_to_num(torch.inf))


def find_runs(
    masks: Tensor, boxes: Tensor, crops: Crops, chosen: np.ndarray, height: int, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The runs of the chosen ones of (N, M, M) float masks in (N, 4) float32 boxes.

    Args:
        chosen: ascending indices of ordinary crops that are seen.
        height: of the image, in pixels.
        threshold: greater than the rounding error.

    Returns:
        For each run, in no order, the mask, the first pixel and the end as column * height + row;
        and the chosen masks that are better pasted, which have no runs here.
    """
    none = np.zeros(0, np.int64)
    if not len(chosen):
        return none, none, none, none
    error = rounding_error(masks)
    widths = (crops.right - crops.left)[chosen]
    owner = np.repeat(chosen, widths)
    column = _count_up(crops.left[chosen], widths)
    which, node, fall, doubtful = _crossings(masks, crops, owner, column, threshold, error)

    _, y0, _, y1 = crops.box[:, owner[which]]
    scale = (y1 - y0) / masks.shape[1]  # pixels from node to node
    row = np.clip((node + 0.5) * scale + y0 - 0.5, -1.5, height + 1.5)
    reach = 1.1 * error * scale / np.abs(fall)  # `fall` is good to a hundredth
    doubtful[which[reach >= 0.5]] = True
    doubts = np.bincount(owner[doubtful], minlength=len(masks))
    pasted = doubts * 4 > crops.right - crops.left

    after, pixel = np.ceil(row).astype(np.int64), np.rint(row)
    asked = np.flatnonzero((np.abs(row - pixel) <= reach) & ~doubtful[which])
    pixel = pixel[asked].astype(np.int64)
    inside = _inside(masks, boxes, owner[which[asked]], column[which[asked]], pixel, threshold)
    # The pixel is past a crossing into the mask if it is in, past one out of it if it is not.
    after[asked] = pixel + (inside != (fall[asked] < 0))
    after = np.clip(after, crops.top[owner[which]], crops.bottom[owner[which]])
    # Columns begin and end outside, so that crossings in and out take turns.
    which, start, end = which[::2], after[::2], after[1::2]
    certain = ~doubtful[which] & ~pasted[owner[which]] & (start < end)
    runs = [(which[certain], start[certain], end[certain])]

    rest = np.flatnonzero(doubtful & ~pasted[owner])
    for part in np.array_split(rest, len(rest) // 1024 + 1):
        which, start, end = _tested(masks, boxes, crops, owner[part], column[part], threshold)
        runs.append((part[which], start, end))
    which, start, end = (np.concatenate(arrays) for arrays in zip(*runs))
    first = column[which] * height
    return owner[which], first + start, first + end, np.flatnonzero(pasted)


def _count_up(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """start, start + 1, ... for each start, as many as its size says."""
    return np.arange(sizes.sum()) + np.repeat(starts - np.cumsum(sizes) + sizes, sizes)


def _crossings(
    masks: Tensor,
    crops: Crops,
    owner: np.ndarray,
    column: np.ndarray,
    threshold: float,
    error: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where the columns' interpolations cross the threshold, from top to bottom of each.

    Returns:
        For each crossing the index of its column, its height in nodes and how much the values fall
        from the node before to the one after; and whether a column has a node in doubt, (columns,).
    """
    size = masks.shape[1]
    x0, _, x1, _ = crops.box[:, owner]
    # Node j of a mask's column i is at [i + 1, j + 1] of its part.
    nodes = F.pad(masks.transpose(1, 2), (1, 1, 1, 1)).cpu().numpy().reshape(-1, size + 2)
    at = np.clip((column + 0.5 - x0) / (x1 - x0) * size - 0.5, -1, size)
    left = np.minimum(np.floor(at), size - 1)
    share = (at - left).astype(nodes.dtype)[:, None]
    left = owner * (size + 2) + left.astype(np.int64) + 1

    doubtful = np.zeros(len(owner), dtype=bool)
    found = []
    for begin in range(0, len(owner), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        values = nodes[left[part]]
        values += share[part] * (nodes[left[part] + 1] - values)
        values -= threshold
        doubtful[begin + np.flatnonzero(np.abs(values) <= error) // (size + 2)] = True
        inside = values > 0
        which, node = np.divmod(np.flatnonzero(inside[:, 1:] != inside[:, :-1]), size + 1)
        above, below = values[which, node].astype(np.float64), values[which, node + 1]
        found.append((which + begin, node - 1 + above / (above - below), above - below))
    which, node, fall = (np.concatenate(arrays) for arrays in zip(*found))
    return which, node, fall, doubtful


def _tested(
    masks: Tensor,
    boxes: Tensor,
    crops: Crops,
    owner: np.ndarray,
    column: np.ndarray,
    threshold: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The runs of some columns, pixel by pixel: index of the column, first row and end."""
    sizes = (crops.bottom - crops.top)[owner]
    which = np.repeat(np.arange(len(owner)), sizes)
    row = _count_up(crops.top[owner], sizes)
    inside = _inside(masks, boxes, owner[which], column[which], row, threshold)
    which, row = which[inside], row[inside]
    breaks = np.ones(len(row) + 1, dtype=bool)
    breaks[1:-1] = (which[1:] != which[:-1]) | (row[1:] != row[:-1] + 1)
    return which[breaks[:-1]], row[breaks[:-1]], row[breaks[1:]] + 1


def _inside(
    masks: Tensor,
    boxes: Tensor,
    owner: np.ndarray,
    column: np.ndarray,
    row: np.ndarray,
    threshold: float,
) -> np.ndarray:
    """Whether Detectron2 has these pixels in their masks; `owner` ascends."""
    # grid_sample takes as many points of each mask: one line a mask, as long as the longest.
    used, sizes = np.unique(owner, return_counts=True)
    line = np.repeat(np.arange(len(used)), sizes)
    place = _count_up(np.zeros_like(sizes), sizes)
    pixels = np.zeros((2, len(used), sizes.max(initial=0)), dtype=np.float32)
    pixels[:, line, place] = column, row
    index = torch.from_numpy(used).to(masks.device)
    x, y = torch.from_numpy(pixels).to(masks.device)
    x0, y0, x1, y1 = boxes[index].split(1, dim=1)
    # The operations of Detectron2's _do_paste_mask, one by one.
    x = ((x + 0.5) - x0) / (x1 - x0) * 2 - 1
    y = ((y + 0.5) - y0) / (y1 - y0) * 2 - 1
    grid = torch.stack([x, y], dim=2)[:, None].to(masks.dtype)
    values = F.grid_sample(masks[index, None], grid, align_corners=False)[:, 0, 0]
    return (values >= threshold).cpu().numpy()[line, place]

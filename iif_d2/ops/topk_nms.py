"""The k best boxes that NMS within each class keeps of many, as `batched_nms` given all of them.

Three steps, each as exact as the whole: find the K best candidates (`Candidates`), decide with the
arithmetic that torchvision would use for all candidates which of the K stay (`_by_class`,
`_shift`), and let K grow until k stay (`topk_nms`).
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from detectron2.layers import batched_nms
from torch import Tensor
from torchvision.ops import nms

__all__ = ["Candidates", "most_shifted", "topk_nms"]

_BLOCK = 64  # classes in a block of scores, at least: sharp bounds, and a vectorised maximum
_FEW = 64  # boxes of a class that are compared in pairs; more go to torchvision
_MOST = 1 << 15  # boxes with which `batched_nms` is tried; a GPU's NMS of so many needs 130 MB


@functools.lru_cache
def most_shifted(device: torch.device) -> int | None:
    """The most boxes on this device that `batched_nms` shifts; with more it goes class by class.

    To shift is to move each class by the largest coordinate plus one, so that classes are apart,
    and call NMS once. That moves float32 IoUs, and the limit changes between releases. Boxes whose
    largest coordinate is -1 tell one way from the other: they are not moved, and those of two
    classes meet.

    Returns:
        None where there is no limit up to `_MOST`.
    """

    def by_class(number: int) -> bool:
        boxes = torch.tensor([[-3.0, -3.0, -1.0, -1.0]], device=device).repeat(number, 1)
        classes = torch.arange(number, device=device) % 2
        return len(batched_nms(boxes, boxes.new_ones(number), classes, 0.5)) == 2

    limit = bisect.bisect_left(range(_MOST), True, lo=2, key=by_class) - 1
    return limit if 1 < limit < _MOST - 1 else None


def topk_nms(
    scores: Tensor,
    boxes_at: Callable[[Tensor, Tensor], Tensor],
    score_thresh: float,
    nms_thresh: float,
    k: int,
    limit: int,
) -> tuple[Tensor, Tensor]:
    """Which k candidates stay, best first, if all scores above a threshold go to `batched_nms`.

    Args:
        scores: (R, C), finite.
        boxes_at: the (n, 4) float32 boxes of n candidates, given their rows and classes.
        score_thresh: candidates have a greater score.
        nms_thresh: IoU in [0, 1] above which only the better of two boxes of a class stays.
        k: how many to return at most; all if negative.
        limit: see `most_shifted`.

    Returns:
        Rows and classes, int64. Equal scores are ordered by row, then class.
    """
    kept = torch.empty(0, dtype=torch.long, device=scores.device)  # places in `found`, best first
    if not scores.numel() or k == 0:
        return kept, kept
    candidates = Candidates(scores, score_thresh)
    at_least = candidates.lower_bound()
    if not at_least:
        return kept, kept
    done, ahead = 0, 2 * k if k > 0 else scores.numel()
    perhaps_few = at_least <= limit
    found = candidates.best(None if perhaps_few else ahead)
    shifted = None
    if perhaps_few and found.numel() <= limit:
        rows, classes = candidates.locate(found)
        shifted = _shift(boxes_at(rows, classes), classes)
    while True:
        # The survivors among the better ones remove all that the better ones do.
        pool = torch.arange(done, min(ahead, found.numel()), device=scores.device)
        pool = torch.cat([kept, pool]) if done else pool
        if shifted is not None:
            kept = pool[_nms(shifted[pool], nms_thresh)]
        else:
            rows, classes = candidates.locate(found[pool])
            kept = pool[_by_class(boxes_at(rows, classes), classes, nms_thresh)]
        if found.numel() < ahead or kept.numel() >= k:
            return candidates.locate(found[kept[:k] if k > 0 else kept])
        # As many as would do if no smaller share survived, and some more.
        done, growth = ahead, 1.25 * k / kept.numel()
        ahead = math.ceil(done * min(max(growth, 1.5), 4))
        if not perhaps_few:
            found = candidates.best(ahead)


class Candidates:
    """The (R, C) scores above a threshold, best first, found without sorting them all.

    Equal ones are ordered by row, then class. A candidate is known by its index row * C + class.
    """

    def __init__(self, scores: Tensor, score_thresh: float) -> None:
        self.scores, self.score_thresh = scores, score_thresh
        num_classes = scores.shape[1]
        self.width = math.ceil(num_classes / max(num_classes // _BLOCK, 1))
        whole = num_classes // self.width
        maxima = scores[:, : whole * self.width].unflatten(1, (whole, self.width)).amax(2)
        if whole * self.width < num_classes:
            rest = scores[:, whole * self.width :].amax(1, keepdim=True)
            maxima = torch.cat([maxima, rest], 1)
        self.maxima = maxima  # (R, blocks in a row)

    def lower_bound(self) -> int:
        """No more than the number of candidates: the number of blocks with one."""
        return int(torch.count_nonzero(self.maxima > self.score_thresh))

    def locate(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and classes."""
        num_classes = self.scores.shape[1]
        return torch.div(index, num_classes, rounding_mode="floor"), index % num_classes

    def best(self, k: int | None) -> Tensor:
        """Indices of the k best candidates; of all where k is None or more than there are."""
        eligible, bound = self.maxima > self.score_thresh, self.score_thresh
        if k is not None and k < self.maxima.numel():
            # The k greatest maxima are k of the scores, so the k-th score is at least their least.
            bound = self.maxima.flatten().topk(k, sorted=False).values.amin()
            eligible &= self.maxima >= bound
        rows, columns = eligible.nonzero(as_tuple=True)
        num_classes = self.scores.shape[1]
        if 4 * rows.numel() > self.maxima.numel():
            hits = (self.scores > self.score_thresh) & (self.scores >= bound)
            index, values = hits.flatten().nonzero().squeeze(1), self.scores[hits]
        else:
            # A row's last block may be short. It is read from further left, and what another block
            # owns is dropped.
            firsts = columns * self.width
            starts = firsts.clamp(max=num_classes - self.width)
            values = self.scores.unfold(1, self.width, 1)[rows, starts]
            hits = values >= bound
            block, offset = hits.nonzero(as_tuple=True)
            values, classes = values[hits], starts[block] + offset
            own = (values > self.score_thresh) & (classes >= firsts[block])
            index, values = (rows[block] * num_classes + classes)[own], values[own]
        # `index` ascends, so a stable sort orders equal scores by row, then class.
        return index[values.sort(descending=True, stable=True).indices[:k]]


def _shift(boxes: Tensor, classes: Tensor) -> Tensor:
    """All candidates' boxes with the classes apart, as `_batched_nms_coordinate_trick` does."""
    return boxes + (classes.to(boxes) * (boxes.max() + 1)).unsqueeze(1)


def _by_class(boxes: Tensor, classes: Tensor, nms_thresh: float) -> Tensor:
    """Indices kept of boxes, best first, by `_batched_nms_vanilla`: NMS of each class alone.

    A call of NMS costs more than comparing a few boxes, and most classes have a few. Their pairs
    are compared here in float64.
    """
    order = classes.argsort(stable=True)  # by class, within it best first
    boxes = boxes[order]
    sizes = torch.bincount(classes).cpu().numpy()
    sizes = sizes[sizes > 0]
    ends = sizes.cumsum()
    owner = np.repeat(np.arange(len(sizes)), sizes)
    first, second = _pairs_before(np.where(sizes <= _FEW, ends, 0)[owner])
    above, doubtful = _compare(boxes.cpu().numpy().astype(np.float64), first, second, nms_thresh)

    ask = sizes > _FEW
    ask[owner[first[doubtful]]] = True
    above &= ~ask[owner[first]]
    keep = np.ones(len(boxes), dtype=bool)
    # In this order a box has been removed, if it ever is, before it can remove others.
    for better, worse in zip(first[above].tolist(), second[above].tolist()):
        if keep[better]:
            keep[worse] = False
    for start, end in zip((ends - sizes)[ask].tolist(), ends[ask].tolist()):
        keep[start:end] = False
        keep[start + _nms(boxes[start:end], nms_thresh).cpu().numpy()] = True
    return order[torch.from_numpy(keep).to(order.device)].sort().values


def _pairs_before(ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All (i, j) with i < j < ends[i], in ascending order."""
    index = np.arange(len(ends))
    partners = np.maximum(ends - index - 1, 0)
    first = np.repeat(index, partners)
    before = np.cumsum(partners) - partners
    return first, np.arange(len(first)) - before[first] + first + 1


def _compare(
    boxes: np.ndarray, first: np.ndarray, second: np.ndarray, nms_thresh: float
) -> tuple[np.ndarray, np.ndarray]:
    """Of each pair of boxes whether its IoU is above the threshold, and whether that is in doubt.

    torchvision computes IoUs of these boxes in float32. Where sides are not negative, and areas
    neither under- nor overflow, its relative error is below 16 * 2^-24: a rounding for each side,
    area, sum and quotient, fused or not, and a union no less than half the sum of the areas. So it
    can differ from this float64 decision only within 1e-5 of the threshold. Boxes that do not meet
    have IoU 0 in both, empty ones 0 or NaN, which is above nothing.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    ordinary = ((sides == 0) | ((sides >= 2.0**-60) & (sides <= 2.0**60))).all(axis=1)
    areas = sides.prod(axis=1)
    a, b = boxes[first], boxes[second]
    shared = (np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])).clip(min=0)
    shared = shared.prod(axis=1)
    union = areas[first] + areas[second] - shared
    iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    near = (np.abs(iou - nms_thresh) < 1e-5) & (shared > 0)
    doubtful = near | ~(ordinary[first] & ordinary[second]) | (nms_thresh < 0)
    return iou > nms_thresh, doubtful


def _nms(boxes: Tensor, nms_thresh: float) -> Tensor:
    """Ascending indices of the boxes, best first, that NMS keeps."""
    # Instead of the scores, which may be equal or of a type that NMS does not take.
    ranks = torch.arange(len(boxes), 0, -1, device=boxes.device, dtype=boxes.dtype)
    return nms(boxes, ranks, nms_thresh)

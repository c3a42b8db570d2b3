"""The exact last stage under many scores at once, for boxes that stay the same.

A method that acts at test only changes scores and no box. Which boxes overlap is found once for
all methods here; each then costs a search for its best candidates and a walk through them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

from . import topk_nms
from .exact_topk import exact_topk_inference

__all__ = ["Found", "exact_topk_many"]

_AHEAD = 6  # candidates looked at for each detection; where they do not do, one stage goes alone


class Found(NamedTuple):
    """Detections under one set of scores, best first: rows and classes int64 (n,), scores (n,)."""

    rows: np.ndarray
    classes: np.ndarray
    scores: np.ndarray


def exact_topk_many(
    boxes: Tensor,
    scores: Sequence[Callable[[], Tensor]],
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[Instances, list[tuple[np.ndarray, np.ndarray]]]:
    """What `exact_topk_inference` gives for each of many scores of one image's boxes.

    Args:
        boxes: (R, C * 4) or (R, 4), as there.
        scores: functions that give (R, C + 1) scores, as there. Each is called when it is needed,
            once or twice, so that no two of their results have to be held.
        image_shape, score_thresh, nms_thresh, topk_per_image: as there.

    Returns:
        Instances with `pred_boxes` and `pred_classes`: all that is detected under any scores, each
        box and class once. And for each scores the places in it, int64 (n,), best first, and the
        detections' scores, float (n,).
    """
    stage = (image_shape, score_thresh, nms_thresh, topk_per_image)
    best = [_best(boxes, score(), score_thresh, _AHEAD * topk_per_image) for score in scores]
    overlaps = _Overlaps(boxes, [b for b in best if b is not None], image_shape, nms_thresh)
    found = []
    for score, candidates in zip(scores, best):
        kept = None
        if candidates is not None:
            all_seen = len(candidates.rows) < _AHEAD * topk_per_image
            kept = overlaps.keep(candidates, topk_per_image, all_seen)
        found.append(_alone(boxes, score(), stage) if kept is None else kept)
    num_rows = len(boxes)
    keys = [one.classes * num_rows + one.rows for one in found]
    union, places = np.unique(np.concatenate(keys), return_inverse=True)
    classes, rows = (torch.from_numpy(part).to(boxes.device) for part in divmod(union, num_rows))
    table = boxes.unflatten(1, (-1, 4))
    instances = Instances(image_shape)
    instances.pred_boxes = Boxes(table[rows, classes if table.shape[1] > 1 else 0])
    instances.pred_boxes.clip(image_shape)
    instances.pred_classes = classes
    ends = np.cumsum([len(key) for key in keys])[:-1]
    return instances, list(zip(np.split(places.ravel(), ends), [one.scores for one in found]))


def _best(boxes: Tensor, scores: Tensor, score_thresh: float, count: int) -> Found | None:
    """The best candidates; None where torchvision's way depends on more than their overlaps."""
    if count <= 0 or not topk_nms.SUPPORTED or not math.isfinite(scores.sum() + boxes.sum()):
        return None
    scores = scores[:, :-1]
    candidates = topk_nms.Candidates(scores, score_thresh)
    if not topk_nms.goes_class_by_class(candidates.lower_bound(), scores.device):
        number = int(torch.count_nonzero(scores > score_thresh))
        if not topk_nms.goes_class_by_class(number, scores.device):
            return None
    rows, classes = candidates.locate(candidates.best(count))
    return Found(*(part.cpu().numpy() for part in (rows, classes, scores[rows, classes])))


def _alone(boxes: Tensor, scores: Tensor, stage: tuple) -> Found:
    instances, rows = exact_topk_inference(boxes, scores, *stage)
    if not math.isfinite(scores.sum() + boxes.sum()):  # its rows count the finite ones only
        finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
        rows = finite.nonzero().squeeze(1)[rows]
    parts = (rows, instances.pred_classes, instances.scores)
    return Found(*(part.cpu().numpy() for part in parts))


class _Overlaps:
    """Which of the boxes that any scores rank high overlap too much to be kept together.

    A box is a node. Boxes of different classes never meet, so a node's neighbours fit into the bits
    of an integer as long as the proposals are many.
    """

    def __init__(
        self, boxes: Tensor, best: list[Found], image_shape: tuple[int, int], nms_thresh: float
    ) -> None:
        table = boxes.unflatten(1, (-1, 4))
        self._num_rows, self._agnostic = len(boxes), table.shape[1] == 1
        keys = [self._keys(found) for found in best]
        self._nodes = np.unique(np.concatenate(keys)) if keys else np.zeros(0, dtype=np.int64)
        groups, rows = np.divmod(self._nodes, max(self._num_rows, 1))
        device = boxes.device
        nodes = Boxes(table[torch.from_numpy(rows).to(device), torch.from_numpy(groups).to(device)])
        nodes.clip(image_shape)
        ends = np.searchsorted(groups, groups, side="right")
        first, second = topk_nms.pairs_before(ends)
        corners = nodes.tensor.cpu().numpy().astype(np.float64)
        above, doubtful = topk_nms.compare(corners, first, second, nms_thresh)
        for pair in np.flatnonzero(doubtful):
            both = nodes.tensor[[int(first[pair]), int(second[pair])]]
            above[pair] = len(topk_nms.nms(both, nms_thresh)) == 1
        starts = np.searchsorted(groups, groups)
        self._bit = [1 << place for place in (np.arange(len(groups)) - starts).tolist()]
        self._near = [0] * len(groups)
        for one, other in zip(first[above].tolist(), second[above].tolist()):
            self._near[one] |= self._bit[other]
            self._near[other] |= self._bit[one]

    def keep(self, found: Found, most: int, all_seen: bool) -> Found | None:
        """NMS of each class; None if fewer than `most` stay and there are further candidates."""
        nodes = np.searchsorted(self._nodes, self._keys(found))
        removed: dict[int, int] = {}
        kept: list[int] = []
        for place, (label, node) in enumerate(zip(found.classes.tolist(), nodes.tolist())):
            gone = removed.get(label, 0)
            if gone & self._bit[node]:
                continue
            kept.append(place)
            if len(kept) == most:
                break
            removed[label] = gone | self._near[node]
        if len(kept) < most and not all_seen:
            return None
        return Found(*(part[kept] for part in found))

    def _keys(self, found: Found) -> np.ndarray:
        return found.rows if self._agnostic else found.classes * self._num_rows + found.rows

"""False positives of each group of classes at equal recall, boxes only.

A count at one score threshold favours the method that scales its scores down. At equal recall each
method has its own threshold: the highest at which it has found that share of the group's objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from hotcoco import COCO, COCOeval, mask

from ..groups import GROUPS
from .detections import Detections
from .ground_truth import GroundTruth

RECALLS = tuple(tenth / 10 for tenth in range(1, 10))
BACKGROUND = 0.1  # IoU with every object below it, as TIDE has it (Bolya et al., ECCV 2020)
_IOU = 0.5
_TOGETHER = 64  # images that are matched in one call; all at once would need GBs on LVIS
_NO_CAP = 1 << 30  # hotcoco caps per image and class; here the cap was applied before


@dataclass(frozen=True)
class AtRecall:
    """One group at one recall.

    Attributes:
        group: a letter of GROUPS.
        images: of the data set.
        objects: of the group's classes.
        highest: the recall of all detections; nan without objects.
        recall: the share of the objects that is to be found.
        threshold: the highest score with which it is; nan where it never is.
        false_positives: detections of the group's classes, from that score on, that are no object
            of their class; nan where the recall is not reached.
        background: those of them that touch no object of any class, by `BACKGROUND`.
    """

    group: str
    images: int
    objects: int
    highest: float
    recall: float
    threshold: float
    false_positives: float
    background: float


def false_positives_at_recall(
    truth: GroundTruth,
    found: Detections,
    groups: np.ndarray,
    recalls: Sequence[float] = RECALLS,
    max_dets: int = 300,
) -> list[AtRecall]:
    """False positives of each group, at the score that gives each recall.

    Detections are matched at IoU 0.5 as the evaluator matches them, and what it ignores is no
    false positive: the classes of a federated data set that were not looked for in an image, or
    not annotated exhaustively there, and what lies in a crowd. Detections of equal score are in
    or out together.

    Args:
        truth: the annotations, of C classes.
        found: their `images` are the annotation file's ids.
        groups: (C,) of "r", "c", "f".
        recalls: in (0, 1].
        max_dets: best detections of an image that count, over all classes.

    Returns:
        For each group that has classes, one of each recall.

    Raises:
        DataError: a detection is in an image that the annotations do not have.

    Examples:
        >>> from iif_d2.evaluation import Detections
        >>> from iif_d2.evaluation.ground_truth import GroundTruth
        >>> truth = GroundTruth("my/train.json")
        >>> ids = [category.id for category in truth.categories]
        >>> box = {"image_id": 7, "category_id": ids[0], "bbox": [4, 4, 20, 20], "score": 0.75}
        >>> found = Detections.from_json([box], ids)  # or the path of such a file
        >>> false_positives_at_recall(truth, found, frequency.groups(), recalls=[0.5])
        [AtRecall(group=..., images=..., objects=..., highest=..., recall=0.5, ...)]
    """
    found, right, background = _judged(truth, found, max_dets)
    objects, letters = truth.count(range(len(truth))), groups[found.classes]
    result: list[AtRecall] = []
    for group in GROUPS:
        if not (groups == group).any():
            continue
        own = letters == group
        total = int(objects[groups == group].sum())
        parts = found.scores[own], right[own], background[own]
        result += _at_recalls(group, len(truth), total, *parts, recalls)
    return result


def _at_recalls(
    group: str,
    images: int,
    objects: int,
    scores: np.ndarray,
    right: np.ndarray,
    background: np.ndarray,
    recalls: Sequence[float],
) -> Iterator[AtRecall]:
    hits = -np.sort(-scores[right])
    reached = np.arange(1, len(hits) + 1) / objects if objects else np.zeros(0)
    highest = len(hits) / objects if objects else np.nan
    for recall in recalls:
        counts = [np.nan] * 3
        if highest >= recall:
            threshold = hits[np.argmax(reached >= recall)]
            wrong = ~right & (scores >= threshold)
            counts = [threshold, wrong.sum(), (wrong & background).sum()]
        yield AtRecall(group, images, objects, highest, recall, *map(float, counts))


def _judged(
    truth: GroundTruth, found: Detections, max_dets: int
) -> tuple[Detections, np.ndarray, np.ndarray]:
    """The detections that the evaluator does not ignore; of each whether it is right, and whether
    it lies on the background."""
    places = np.array([truth.index(image_id) for image_id in found.images], dtype=np.int64)
    order = np.argsort(places, kind="stable")
    found = replace(found.take(order), images=places[order])
    starts = np.searchsorted(found.images, np.arange(len(truth) + 1))
    judged: list[Detections] = []
    right, background = [np.zeros(0, dtype=bool)], [np.zeros(0, dtype=bool)]
    for first in range(0, len(truth), _TOGETHER):
        images = range(first, min(first + _TOGETHER, len(truth)))
        parts = []
        for image in images:
            here = found.take(np.arange(starts[image], starts[image + 1]))
            here = here.take(here.best(max_dets))
            here = here.take(truth.looked_for(image, here.classes))
            if truth.federated:  # lvis-api does not see what has no area
                here = here.take(here.boxes[:, 2] * here.boxes[:, 3] > 0)
            parts.append(here)
        part = Detections.concatenate(parts)
        if len(part):
            is_right, ignored = _matched(truth, images, part)
            alone = np.concatenate([_on_background(truth, *pair) for pair in zip(images, parts)])
            judged.append(part.take(~ignored))
            right.append(is_right[~ignored])
            background.append(alone[~ignored])
    return Detections.concatenate(judged), np.concatenate(right), np.concatenate(background)


def _on_background(truth: GroundTruth, image: int, found: Detections) -> np.ndarray:
    """bool (N,): boxes that overlap no object; in a crowd, by their share that lies in it."""
    objects = truth.annotation_records(image, masks=False)
    if not len(found) or not objects:
        return np.ones(len(found), dtype=bool)
    boxes = [list(record["bbox"]) for record in objects]
    crowds = [bool(record["iscrowd"]) for record in objects]
    overlaps = np.asarray(mask.iou(found.boxes.tolist(), boxes, crowds))
    return overlaps.max(axis=1) < BACKGROUND


def _matched(
    truth: GroundTruth, images: Sequence[int], found: Detections
) -> tuple[np.ndarray, np.ndarray]:
    """bool (N,) twice: which detections found an object, and which are ignored."""
    coco = COCO(truth.coco_dataset(images))
    rows = np.column_stack([found.images + 1, found.boxes, found.scores, found.classes + 1])
    evaluation = COCOeval(coco, coco.load_res(rows), "bbox", lvis_style=True)
    evaluation.params.iou_thrs = [_IOU]
    evaluation.params.max_dets = [_NO_CAP]
    evaluation.params.area_rng = [[0.0, 1e10]]
    evaluation.params.area_rng_lbl = ["all"]
    evaluation.evaluate()
    right, ignored = np.zeros(len(found), dtype=bool), np.zeros(len(found), dtype=bool)
    for pair in evaluation.eval_imgs:
        if pair and pair["dtIds"]:
            at = np.array(pair["dtIds"]) - 1  # hotcoco numbers the rows from 1
            right[at], ignored[at] = pair["dtMatched"][0], pair["dtIgnore"][0]
    return right & ~ignored, ignored

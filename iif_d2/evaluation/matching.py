"""Detections matched to ground truth image by image, so that nothing of an image is kept but who
matched and at which score: about 20 bytes a detection that counts.

hotcoco does the matching. What it is fed is what makes it LVIS's or COCO's protocol:

- LVIS: a class counts in an image only where it was looked for; unmatched detections of a class
  that is not exhaustively annotated there are ignored; what has no area is not seen, and an object
  with `ignore` neither matches nor is missed, as in lvis-api.
- COCO: every class counts in every image; what has no area counts, as in pycocotools, and `ignore`
  says nothing, as there.
- Both: crowds are regions to ignore, as in pycocotools. lvis-api would count a crowd as one object;
  LVIS has none. The cap on detections is per image over all classes, as in lvis-api; pycocotools'
  is per image and class, which is the same where the model gives no more than the cap.
- The annotation with id 0 is an object like any other. Both reference implementations take the id
  of what a detection matched for whether it matched, so that there whoever finds object 0 has a
  false positive. That is the one difference on purpose; with ids from 1 the numbers agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import numpy as np
from hotcoco import Params, StreamingEval, mask

from ..errors import DataError
from .detections import Detections
from .ground_truth import GroundTruth

# hotcoco caps per image and class; here the cap was applied before.
_NO_CAP = 1 << 30
_TOGETHER = 16  # images that are matched in one call, which costs a third less


class _Image(NamedTuple):
    """One image as hotcoco takes it."""

    index: int
    record: dict
    objects: list[dict]
    rows: np.ndarray
    masks: list | None


class Matcher:
    """One task, "bbox" or "segm", over the images it is given. An image counts once.

    Attributes:
        seen: places of the images matched so far.
    """

    def __init__(self, truth: GroundTruth, task: str) -> None:
        self.seen: set[int] = set()
        self._truth = truth
        self._task = task
        params = Params(task)
        params.max_dets = [_NO_CAP]
        categories = [
            {"id": number, "name": category.name}
            for number, category in enumerate(truth.categories, start=1)
        ]
        self._new = partial(
            StreamingEval, categories, task, lvis_style=truth.federated, params=params
        )
        self._stream = self._new()
        self._waiting: list[_Image] = []

    def add(self, index: int, detections: Detections) -> None:
        """Match one image's detections, already capped and of classes that count there."""
        truth, masks = self._truth, self._task == "segm"
        areas = self._areas(index, detections)
        if truth.federated:
            detections, areas = detections.take(areas > 0), areas[areas > 0]
        image = truth.image_record(index)
        objects = truth.annotation_records(index, masks)
        rows = _rows(index, detections, areas if masks else None)
        self._waiting.append(_Image(index, image, objects, rows, detections.masks))
        self.seen.add(index)
        if len(self._waiting) >= _TOGETHER:
            self._match()

    def _match(self) -> None:
        """Those that were added and not yet matched."""
        waiting, self._waiting = self._waiting, []
        try:
            self._update(self._stream, waiting)
        except (ValueError, TypeError, KeyError):
            for one in waiting:
                try:
                    self._update(self._new(), [one])
                except (ValueError, TypeError, KeyError) as error:
                    image_id = self._truth.image_id(one.index)
                    raise DataError(f"{self._truth.path}: image {image_id!r}: {error}") from None
            raise

    def _update(self, stream: StreamingEval, images: list[_Image]) -> None:
        if not images:
            return
        objects = [record for image in images for record in image.objects]
        for number, record in enumerate(objects, start=1):
            record["id"] = number
        masks = None
        if self._task == "segm":
            masks = [mask for image in images for mask in image.masks]
        rows = np.concatenate([image.rows for image in images])
        stream.update([image.record for image in images], objects, rows, segmentation=masks)

    def complete(self, indices: Iterable[int]) -> None:
        """Count these images, where they are not yet, as images without detections."""
        for index in sorted(set(indices) - self.seen):
            self.add(index, Detections.none())

    def state(self) -> tuple[StreamingEval, set[int]]:
        """What another process needs to continue; it pickles."""
        self._match()
        return self._stream, self.seen

    def merged(self, states: Iterable[tuple[StreamingEval, set[int]]]) -> Matcher:
        """A new matcher that has seen what this one and these have."""
        self._match()
        states = list(states)
        result = Matcher(self._truth, self._task)
        result._stream = StreamingEval.merge([self._stream, *(stream for stream, _ in states)])
        result.seen = self.seen.union(*(seen for _, seen in states))
        return result

    def precision(self) -> np.ndarray:
        """float64 (10 IoU thresholds, 101 recalls, C, 4 sizes: all, s, m, l); -1 without objects.

        The last use of this matcher.
        """
        self._match()
        evaluation = self._stream.finalize()
        evaluation.accumulate()
        return evaluation.eval["precision"][..., 0]

    def _areas(self, index: int, detections: Detections) -> np.ndarray:
        """(N,) in pixels: of the boxes, or of the masks."""
        if self._task == "bbox":
            return detections.boxes[:, 2] * detections.boxes[:, 3]
        if not len(detections):
            return np.zeros(0)
        size = tuple(detections.masks[0]["size"])
        if size != self._truth.size(index):
            raise DataError(
                f"{self._truth.path}: image {self._truth.image_id(index)!r} is "
                f"{self._truth.size(index)} (height, width), its predicted masks are {size}; "
                f"give the model the height and width that the file states"
            )
        return mask.area(detections.masks)


def _rows(index: int, detections: Detections, mask_areas: np.ndarray | None) -> np.ndarray:
    """float64 (N, 7) as hotcoco takes detections: image, x, y, w, h, score, class from 1.

    It takes an object's size from the box, also where masks are matched. LVIS and COCO mean the
    mask's size then, so masks get a box of their area; it serves nothing else.
    """
    rows = np.zeros((len(detections), 7))
    rows[:, 0] = index + 1
    if mask_areas is None:
        rows[:, 1:5] = detections.boxes
    else:
        rows[:, 3], rows[:, 4] = mask_areas, 1.0
    rows[:, 5] = detections.scores
    rows[:, 6] = detections.classes + 1
    return rows

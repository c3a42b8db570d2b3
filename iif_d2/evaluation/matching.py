"""Detections matched to ground truth image by image, so that nothing of an image is kept but who
matched and at which score: about 20 bytes a detection that counts.

hotcoco does the matching. What it is fed is what makes it LVIS's or COCO's protocol:

- LVIS: a class counts in an image only where it was looked for; unmatched detections of a class
  that is not exhaustively annotated there are ignored; what has no area is not seen, as in
  lvis-api.
- COCO: every class counts in every image; what has no area counts, as in pycocotools.
- Both: crowds are regions to ignore, as in pycocotools. lvis-api would count a crowd as one object;
  LVIS has none. The cap on detections is per image over all classes, as in lvis-api; pycocotools'
  is per image and class, which is the same where the model gives no more than the cap.
"""

from __future__ import annotations

from typing import Iterable, Optional

import numpy as np
from hotcoco import Params, StreamingEval, mask

from ..errors import DataError
from .detections import Detections
from .ground_truth import GroundTruth

# hotcoco caps per image and class; here the cap was applied before.
_NO_CAP = 1 << 30


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
        self._stream = StreamingEval(categories, task, lvis_style=truth.federated, params=params)

    def add(self, index: int, detections: Detections) -> None:
        """Match one image's detections, already capped and of classes that count there."""
        truth, masks = self._truth, self._task == "segm"
        areas = self._areas(index, detections)
        if truth.federated:
            detections, areas = detections.take(areas > 0), areas[areas > 0]
        try:
            self._stream.update(
                [truth.image_record(index)],
                truth.annotation_records(index, masks),
                _rows(index, detections, areas if masks else None),
                segmentation=detections.masks if masks else None,
            )
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{truth.path}: image {truth.image_id(index)!r}: {error}") from None
        self.seen.add(index)

    def complete(self, indices: Iterable[int]) -> None:
        """Count these images, where they are not yet, as images without detections."""
        for index in sorted(set(indices) - self.seen):
            self.add(index, Detections.none())

    def state(self) -> tuple[StreamingEval, set[int]]:
        """What another process needs to continue; it pickles."""
        return self._stream, self.seen

    def merged(self, states: Iterable[tuple[StreamingEval, set[int]]]) -> Matcher:
        """A new matcher that has seen what this one and these have."""
        states = list(states)
        result = Matcher(self._truth, self._task)
        result._stream = StreamingEval.merge([self._stream, *(stream for stream, _ in states)])
        result.seen = self.seen.union(*(seen for _, seen in states))
        return result

    def precision(self) -> np.ndarray:
        """float64 (10 IoU thresholds, 101 recalls, C, 4 sizes: all, s, m, l); -1 without objects.

        The last use of this matcher.
        """
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


def _rows(index: int, detections: Detections, mask_areas: Optional[np.ndarray]) -> np.ndarray:
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

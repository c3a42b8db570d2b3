"""One image's detections, taken from Detectron2's `Instances` to the form that is scored."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..errors import DataError

# What `Instances` may hold: pasted masks (N, H, W), or N run-length masks as pycocotools has them.
Masks = torch.Tensor | list


@dataclass(frozen=True)
class Detections:
    """N detections.

    Attributes:
        boxes: float64 (N, 4): x, y, width, height in pixels.
        scores: float64 (N,).
        classes: int64 (N,), 0 to C-1.
        masks: bool (N, H, W) wherever the model left them, or N RLE dicts; None without masks.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    masks: Masks | None = None

    @classmethod
    def none(cls) -> Detections:
        return cls(np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=np.int64), [])

    @classmethod
    def of(cls, instances, num_classes: int, source: str) -> Detections:
        """From `pred_boxes`, `scores`, `pred_classes`, and `pred_masks` or `pred_masks_rle`.

        Widths and heights are subtracted in the boxes' own precision, as Detectron2 does before it
        writes them, so that equal detections get equal IoUs to the last bit.

        Raises:
            DataError: a value that is not finite or a class that does not exist; `source` says
                where in the message.
        """
        corners = instances.pred_boxes.tensor.detach().cpu()
        if corners.dtype == torch.float32:  # in which numpy computes the same, sooner
            corners = corners.numpy()
            boxes = np.empty((len(corners), 4))
            boxes[:, :2], boxes[:, 2:] = corners[:, :2], corners[:, 2:] - corners[:, :2]
        else:
            sides = corners[:, 2:] - corners[:, :2]
            boxes = torch.cat([corners[:, :2], sides], dim=1).double().numpy()
        scores = instances.scores.detach().double().cpu().numpy()
        classes = instances.pred_classes.detach().long().cpu().numpy()
        masks = None
        for field in ("pred_masks", "pred_masks_rle"):
            if instances.has(field):
                masks = instances.get(field)
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise DataError(
                f"{source}: a predicted box or score is not a finite number; the model has diverged"
            )
        if len(classes) and not (0 <= classes.min() and classes.max() < num_classes):
            raise DataError(
                f"{source}: class {classes.max()} was predicted, but there are {num_classes} "
                f"classes; MODEL.ROI_HEADS.NUM_CLASSES must be their number"
            )
        return cls(boxes, scores, classes, masks)

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, index: np.ndarray) -> Detections:
        """Those at the given places, in that order, or where a bool (N,) is true."""
        if index.dtype == bool:
            index = np.flatnonzero(index)
        masks = self.masks
        if isinstance(masks, torch.Tensor):
            masks = masks[torch.as_tensor(index, device=masks.device)]
        elif masks is not None:
            masks = [masks[i] for i in index]
        return Detections(self.boxes[index], self.scores[index], self.classes[index], masks)

    def scored(self, scores: np.ndarray) -> Detections:
        """The same with other scores, (N,)."""
        return replace(self, scores=scores.astype(np.float64))

    def best(self, limit: int) -> np.ndarray:
        """Places of the `limit` highest scores of all classes together, ties in order (LVIS)."""
        if len(self) <= limit:
            return np.arange(len(self))
        return np.argsort(-self.scores, kind="stable")[:limit]

    def encoded(self, where: np.ndarray | None = None) -> Detections:
        """The same with RLE dicts for masks; None for those outside `where`, bool (N,)."""
        if not isinstance(self.masks, torch.Tensor):
            return self
        from hotcoco import mask

        places = np.arange(len(self)) if where is None else np.flatnonzero(where)
        masks: list = [None] * len(self)
        if len(places):
            chosen = self.masks.detach()[torch.as_tensor(places, device=self.masks.device)]
            # (N, W, H) in memory is (H, W, N) in Fortran order, which the encoder reads fastest.
            columns = chosen.transpose(1, 2).to("cpu", torch.uint8).contiguous().numpy()
            for place, rle in zip(places, mask.encode(columns.transpose(2, 1, 0))):
                masks[place] = rle
        return replace(self, masks=masks)

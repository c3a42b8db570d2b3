"""What a model found, or what was annotated: the one form that is scored, written and drawn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import torch
from detectron2.data.detection_utils import annotations_to_instances
from detectron2.structures import Instances

from ..annotations.decoding import decode_json
from ..annotations.schema import Id
from ..errors import ConfigError, DataError

# Pasted masks (N, H, W), or N run-length masks as pycocotools has them.
Masks = torch.Tensor | list


class _Box(msgspec.Struct, gc=False):
    """A record of a results json, without its mask."""

    image_id: Id
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float


class _Object(_Box, gc=False):
    segmentation: dict[str, Any] | None = None


@dataclass(frozen=True)
class Detections:
    """N detections in one image, or in several.

    Attributes:
        boxes: float64 (N, 4): x, y, width, height in pixels.
        scores: float64 (N,); nan for annotated objects, which have none.
        classes: int64 (N,), 0 to C-1.
        masks: bool (N, H, W) wherever the model left them, or N RLE dicts; None without masks.
        images: (N,), the image that each is in, by its id or its number; None if all are in one.
        class_names: C names, where they are known.

    Examples:
        >>> found = Detections.from_json("output/iif/lvis_instances_results.json")
        >>> float(found.take(found.images == 7).scores.max())
        0.75
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    masks: Masks | None = None
    images: np.ndarray | None = None
    class_names: Sequence[str] | None = None

    @classmethod
    def none(cls) -> Detections:
        empty = np.zeros(0, dtype=np.int64)
        return cls(np.zeros((0, 4)), np.zeros(0), empty, [], empty)

    @classmethod
    def from_instances(
        cls, instances: Instances, num_classes: int | None = None, source: str = "the model"
    ) -> Detections:
        """From `pred_boxes`, `scores`, `pred_classes`, and `pred_masks` or `pred_masks_rle`.

        Widths and heights are subtracted in the boxes' own precision, as Detectron2 does before it
        writes them, so that equal detections get equal IoUs to the last bit.

        Raises:
            DataError: a value that is not finite, or a class that is not one of `num_classes`;
                `source` says where in the message.
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
        if num_classes is not None and len(classes):
            if not (0 <= classes.min() and classes.max() < num_classes):
                raise DataError(
                    f"{source}: class {classes.max()} was predicted, but there are {num_classes} "
                    f"classes; MODEL.ROI_HEADS.NUM_CLASSES must be their number"
                )
        return cls(boxes, scores, classes, masks)

    @classmethod
    def from_annotations(cls, record: dict[str, Any]) -> Detections:
        """The objects of a Detectron2 dataset dict, which nobody detected: they have no scores."""
        size = (record["height"], record["width"])
        objects = annotations_to_instances(record["annotations"], size, mask_format="bitmask")
        found = Instances(size, pred_boxes=objects.gt_boxes, pred_classes=objects.gt_classes)
        found.scores = torch.zeros(len(objects))
        if objects.has("gt_masks"):
            found.pred_masks = objects.gt_masks.tensor
        return cls.from_instances(found).scored(np.full(len(objects), np.nan))

    @classmethod
    def from_json(
        cls,
        source: str | os.PathLike | list[dict[str, Any]],
        category_ids: Sequence[int] | None = None,
        masks: bool = True,
    ) -> Detections:
        """From a results json of COCO's or LVIS's servers: a file, or its list of records.

        Args:
            source: `lvis_instances_results.json`, or what is in it.
            category_ids: of classes 0 to C-1; by default a category's id is its class.
            masks: read `segmentation`, too; it is most of a file.

        Raises:
            DataError: the file cannot be read, is another one or has other categories.
        """
        schema = list[_Object if masks else _Box]
        if isinstance(source, list):
            name = "the list of results"
            try:
                found = msgspec.convert(source, schema)
            except msgspec.ValidationError as error:
                raise DataError(f"{name} cannot be used: {error}; correct it there") from None
        else:
            name = os.fspath(source)
            found = decode_json(name, schema, "a results file of detections")
        labels = [record.category_id for record in found]
        if category_ids is not None:
            class_of = {category_id: number for number, category_id in enumerate(category_ids)}
            unknown = set(labels) - class_of.keys()
            if unknown:
                raise DataError(
                    f"{name} has category_id {min(unknown)}, which is none of the data set's "
                    f"{len(class_of)}; evaluate the model on this data set again"
                )
            labels = [class_of[category_id] for category_id in labels]
        rles = [record.segmentation for record in found] if masks else []
        images = np.empty(len(found), dtype=object)
        images[:] = [record.image_id for record in found]
        return cls(
            np.array([record.bbox for record in found], dtype=np.float64).reshape(-1, 4),
            np.array([record.score for record in found], dtype=np.float64),
            np.array(labels, dtype=np.int64),
            rles if any(rle is not None for rle in rles) else None,
            images,
        )

    def to_coco(
        self, image_id: Id | None = None, category_ids: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """N result dicts: `image_id`, `category_id`, `bbox`, `score` and, of a mask,
        `segmentation`; what `from_json` reads.

        Args:
            image_id: of the image that all are in; by default each has its own of `images`.
            category_ids: of classes 0 to C-1; by default a class is its own id.
        """
        if image_id is not None or self.images is None:
            images = [image_id] * len(self)
        else:
            images = self.images.tolist()
        labels = self.classes.tolist()
        if category_ids is not None:
            labels = [category_ids[label] for label in labels]
        rows = zip(images, labels, self.boxes.tolist(), self.scores.tolist())
        records = [
            {"image_id": image, "category_id": label, "bbox": box, "score": score}
            for image, label, box, score in rows
        ]
        for record, rle in zip(records, self.encoded().masks or ()):
            if rle is not None:
                counts = rle["counts"]
                counts = counts.decode() if isinstance(counts, bytes) else counts
                record["segmentation"] = {"size": list(rle["size"]), "counts": counts}
        return records

    def to_supervision(self) -> Any:
        """A `supervision.Detections` of one image, with the names as `data["class_name"]`.

        Raises:
            ConfigError: supervision is not installed.
            DataError: they are of several images.
        """
        supervision = _needed("supervision")
        if self.images is not None and len(set(self.images.tolist())) > 1:
            raise DataError(
                "supervision's Detections are of one image, these of several; take those of one: "
                "found.take(found.images == image_id)"
            )
        return supervision.Detections(
            xyxy=self.corners,
            mask=self._pasted(),
            confidence=self.scores.astype(np.float32),
            class_id=self.classes,
            data={} if self.class_names is None else {"class_name": self._names()},
        )

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`, a row a detection: class, class_name where names are known, score,
        and x, y, width, height in pixels; image_id first where they are of several images.

        Raises:
            ConfigError: pandas is not installed.
        """
        columns = {} if self.images is None else {"image_id": self.images}
        columns["class"] = self.classes
        if self.class_names is not None:
            columns["class_name"] = self._names()
        columns["score"] = self.scores
        columns |= dict(zip(("x", "y", "width", "height"), self.boxes.T))
        return _needed("pandas").DataFrame(columns)

    def _names(self) -> np.ndarray:
        return np.array([self.class_names[label] for label in self.classes], dtype=object)

    def _pasted(self) -> np.ndarray | None:
        """bool (N, H, W)."""
        rles = self.encoded().masks
        if not rles or None in rles:
            return None
        from hotcoco import mask

        return np.stack([mask.decode(rle) for rle in rles]).astype(bool)

    @classmethod
    def concatenate(cls, parts: Sequence[Detections]) -> Detections:
        """Those of several, which have `images` and, if masks, encoded ones; in their order."""
        parts = [part for part in parts if len(part)]
        if not parts:
            return cls.none()
        masks = None
        if any(part.masks is not None for part in parts):
            masks = [mask for part in parts for mask in part.masks or [None] * len(part)]
        return cls(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.classes for part in parts]),
            masks,
            np.concatenate([part.images for part in parts]),
            parts[0].class_names,
        )

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def corners(self) -> np.ndarray:
        """float32 (N, 4): x0, y0, x1, y1, as Detectron2 has boxes."""
        ends = self.boxes[:, :2] + self.boxes[:, 2:]
        return np.concatenate([self.boxes[:, :2], ends], axis=1).astype(np.float32)

    def take(self, index: np.ndarray) -> Detections:
        """Those at the given places, in that order, or where a bool (N,) is true."""
        if index.dtype == bool:
            index = np.flatnonzero(index)
        masks = self.masks
        if isinstance(masks, torch.Tensor):
            masks = masks[torch.as_tensor(index, device=masks.device)]
        elif masks is not None:
            masks = [masks[i] for i in index]
        return replace(
            self,
            boxes=self.boxes[index],
            scores=self.scores[index],
            classes=self.classes[index],
            masks=masks,
            images=None if self.images is None else self.images[index],
        )

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


def _needed(library: str) -> ModuleType:
    try:
        return import_module(library)
    except ImportError:
        raise ConfigError(f"{library} is missing: pip install 'iif_d2[results]'") from None

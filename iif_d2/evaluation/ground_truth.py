"""The annotations that detections are scored against, in the form the matching engine takes."""

from __future__ import annotations

import os
from typing import Optional, Union

import numpy as np

from ..annotations import check_references, decode_json
from ..errors import DataError
from ..masks import check_geometry
from ..schema import EvaluationFile, Id, PackedAnnotation

_MOST_CLASSES = 100_000  # 3 GB of precisions: 10 IoUs, 101 recalls, 4 areas


class GroundTruth:
    """One LVIS or COCO json: classes 0 to C-1 in the order of their ids, images in that of theirs.

    A json whose images have `neg_category_ids` is federated: scored by the LVIS protocol, under
    which a class counts in an image only where it was looked for. Any other is COCO's: each class
    was looked for in every image.

    Args:
        path: the annotation file.
        contiguous_id: class number of each category id, as Detectron2's
            `thing_dataset_id_to_contiguous_id`; by default the order of the ids.

    Raises:
        DataError: the file cannot be used; the message says where and what to do.
    """

    def __init__(
        self, path: Union[str, os.PathLike], contiguous_id: Optional[dict[int, int]] = None
    ) -> None:
        self.path = os.fspath(path)
        content = decode_json(self.path, EvaluationFile, "an LVIS or COCO annotation file")
        if not content.images:
            raise DataError(f"{self.path}: 'images' is empty; there is nothing to evaluate on")
        check_references(self.path, content)
        if len(content.categories) > _MOST_CLASSES:
            raise DataError(
                f"{self.path} has {len(content.categories):,} categories; the precisions of more "
                f"than {_MOST_CLASSES:,} do not fit into memory, remove those without annotations"
            )
        check_geometry(self.path, content)

        self._class_of = contiguous_id or {
            id: index for index, id in enumerate(sorted(c.id for c in content.categories))
        }
        self.categories = self._in_class_order(content.categories)
        # Names sort after numbers: a file may have both, and Python does not compare them.
        self._images = sorted(
            content.images, key=lambda image: (isinstance(image.id, str), image.id)
        )
        self._index_of = {image.id: index for index, image in enumerate(self._images)}
        self.federated = self._is_federated()
        self._of_image: list[list[PackedAnnotation]] = [[] for _ in self._images]
        for annotation in content.annotations:
            # lvis-api does not see annotations without area; pycocotools does.
            if _area(annotation) > 0 or not self.federated:
                self._of_image[self._index_of[annotation.image_id]].append(annotation)
        self.has_annotations = bool(content.annotations)
        self.has_masks = any(annotation.segmentation for annotation in content.annotations)

    def __len__(self) -> int:
        return len(self._images)

    def image_id(self, index: int) -> Id:
        """The json's id of the image at this place."""
        return self._images[index].id

    def index(self, image_id: Id) -> int:
        """The place of the image with this id.

        Raises:
            DataError: the json does not have it.
        """
        try:
            return self._index_of[image_id]
        except KeyError:
            raise DataError(
                f"{self.path} has no image with id {image_id!r}, but there are predictions for it; "
                f"evaluate on the data set this file belongs to"
            ) from None

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self._images[index].height, self._images[index].width

    def looked_for(self, index: int, classes: np.ndarray) -> np.ndarray:
        """Which of these classes count in the image: bool (N,) for int (N,).

        In a federated data set those with objects there and those known to be absent; in any other
        all of them.
        """
        if not self.federated:
            return np.ones(len(classes), dtype=bool)
        known = np.zeros(len(self.categories), dtype=bool)
        known[self._classes(self._images[index].neg_category_ids)] = True
        known[[self._class_of[a.category_id] for a in self._of_image[index]]] = True
        return known[classes]

    def count(self, indices) -> np.ndarray:
        """int64 (C,): the objects of each class in these images that a detector should find."""
        classes = [
            self._class_of[annotation.category_id]
            for index in indices
            for annotation in self._of_image[index]
            if not annotation.iscrowd
        ]
        return np.bincount(np.asarray(classes, dtype=np.int64), minlength=len(self.categories))

    def image_record(self, index: int) -> dict:
        """The image as hotcoco takes it; its ids, of images and of classes, start at 1 here."""
        image = self._images[index]
        record = {"id": index + 1, "height": image.height, "width": image.width}
        if self.federated:
            record["neg_category_ids"] = [
                number + 1 for number in self._classes(image.neg_category_ids)
            ]
            record["not_exhaustive_category_ids"] = [
                number + 1 for number in self._classes(image.not_exhaustive_category_ids or ())
            ]
        return record

    def annotation_records(self, index: int, masks: bool) -> list[dict]:
        """The image's objects as hotcoco takes them; crowds (`iscrowd`) are regions to ignore.

        Raises:
            DataError: masks are asked for and an object has none.
        """
        records = []
        for number, annotation in enumerate(self._of_image[index], start=1):
            record = {
                "id": number,
                "image_id": index + 1,
                "category_id": self._class_of[annotation.category_id] + 1,
                "bbox": annotation.bbox,
                "area": _area(annotation),
                "iscrowd": annotation.iscrowd or 0,
            }
            if masks:
                record["segmentation"] = self._segmentation(annotation)
            records.append(record)
        return records

    def _in_class_order(self, categories: list) -> list:
        found = {category.id for category in categories}
        if found != set(self._class_of) or sorted(self._class_of.values()) != list(
            range(len(found))
        ):
            differ = sorted(found.symmetric_difference(self._class_of))
            raise DataError(
                f"{self.path} has {len(found)} categories and the data set's metadata "
                f"{len(self._class_of)}, of which {len(differ)} are not in both "
                f"(ids {differ[:5]}); correct thing_dataset_id_to_contiguous_id"
            )
        return sorted(categories, key=lambda category: self._class_of[category.id])

    def _is_federated(self) -> bool:
        without = [image.id for image in self._images if image.neg_category_ids is None]
        if without and len(without) < len(self._images):
            raise DataError(
                f"{self.path}: image {without[0]!r} and {len(without) - 1} more have no "
                f"neg_category_ids, the others do; give them, or remove them from all images if "
                f"every class was annotated everywhere"
            )
        return not without

    def _classes(self, category_ids) -> list[int]:
        """Class numbers of the ids the file has categories for; no detection can have another."""
        return [self._class_of[id] for id in category_ids if id in self._class_of]

    def _segmentation(self, annotation: PackedAnnotation) -> Union[list, dict]:
        segmentation = annotation.segmentation
        if not segmentation:
            raise DataError(
                f"{self.path}: the annotation of image {annotation.image_id!r} at "
                f"{list(annotation.bbox)} has no segmentation; add it, or evaluate boxes only with "
                f"tasks=('bbox',)"
            )
        if isinstance(segmentation, list):
            return [polygon.tolist() for polygon in segmentation]
        return {"size": list(segmentation.size), "counts": segmentation.counts}


def _area(annotation: PackedAnnotation) -> float:
    """In pixels; that of the box where the file does not say."""
    if annotation.area is not None:
        return annotation.area
    return annotation.bbox[2] * annotation.bbox[3]

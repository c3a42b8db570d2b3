"""The annotations that detections are scored against, in the form the matching engine takes."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from ..annotations.reading import read_annotations
from ..annotations.schema import AnnotatedImage, DatasetAnnotation, Id
from ..errors import DataError

BEYOND_SIZES = 1e12  # pixels; the sizes of LVIS and COCO end at 1e10
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
        self, path: str | os.PathLike, contiguous_id: dict[int, int] | None = None
    ) -> None:
        self.path = os.fspath(path)
        self._file = file = read_annotations(self.path)
        if len(file.categories) > _MOST_CLASSES:
            raise DataError(
                f"{self.path} has {len(file.categories):,} categories; the precisions of more "
                f"than {_MOST_CLASSES:,} do not fit into memory, remove those without annotations"
            )
        category_ids = [category.id for category in file.categories]
        self._class_of = contiguous_id or {id: place for place, id in enumerate(category_ids)}
        self.categories = self._in_class_order(file.categories)
        self._places = {image_id: place for place, image_id in enumerate(file.image_ids)}
        self.federated = self._is_federated()
        # lvis-api does not see annotations without area; pycocotools does.
        # What to ignore: crowds for both, lvis-api's `ignore` for LVIS alone.
        self._ignored = file.ignored & self.federated
        self._seen = ~file.without_area if self.federated else np.ones_like(file.without_area)
        self._classes_of = np.array([self._class_of[id] for id in category_ids])[file.classes]
        self.has_annotations = len(file.classes) > 0
        self.has_masks = file.has_masks
        self._last: tuple[int, AnnotatedImage | None] = (-1, None)

    def __len__(self) -> int:
        return len(self._file)

    def image_id(self, index: int) -> Id:
        """The json's id of the image at this place."""
        return self._file.image_ids[index]

    def index(self, image_id: Id) -> int:
        """The place of the image with this id.

        Raises:
            DataError: the json does not have it.
        """
        try:
            return self._places[image_id]
        except KeyError:
            raise DataError(
                f"{self.path} has no image with id {image_id!r}, but there are predictions for it; "
                f"evaluate on the data set this file belongs to"
            ) from None

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self._file.sizes[index].tolist()
        return height, width

    def looked_for(self, index: int, classes: np.ndarray) -> np.ndarray:
        """Which of these classes count in the image: bool (N,) for int (N,).

        In a federated data set those with objects there and those known to be absent; in any other
        all of them.
        """
        if not self.federated:
            return np.ones(len(classes), dtype=bool)
        known = np.zeros(len(self.categories), dtype=bool)
        known[self._classes(self._item(index).image.neg_category_ids)] = True
        own = self._own(index)
        known[self._classes_of[own][self._seen[own]]] = True
        return known[classes]

    def count(self, indices) -> np.ndarray:
        """int64 (C,): the objects of each class in these images that a detector should find."""
        chosen = np.zeros(len(self), dtype=bool)
        chosen[list(indices)] = True
        found = np.repeat(chosen, np.diff(self._file.first)) & self._seen
        found &= ~(self._file.crowds | self._ignored)
        return np.bincount(self._classes_of[found], minlength=len(self.categories))

    def image_record(self, index: int) -> dict:
        """The image as hotcoco takes it; its ids, of images and of classes, start at 1 here."""
        image = self._item(index).image
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
        """The image's objects as hotcoco takes them, without the ids that those of several images
        are given together; crowds (`iscrowd`) are regions to ignore.

        An object that LVIS's json flags with `ignore` is of no size that is scored, which is how
        lvis-api takes it: it may be matched once, and neither it nor its match counts.

        Raises:
            DataError: masks are asked for and an object has none.
        """
        records = []
        own = self._own(index)
        flags = self._seen[own].tolist(), self._ignored[own].tolist()
        for annotation, seen, ignored in zip(self._item(index).annotations, *flags):
            if not seen:
                continue
            record = {
                "image_id": index + 1,
                "category_id": self._class_of[annotation.category_id] + 1,
                "bbox": annotation.bbox,
                "area": BEYOND_SIZES if ignored else _area(annotation),
                "iscrowd": annotation.iscrowd or 0,
            }
            if masks:
                record["segmentation"] = self._segmentation(index, annotation)
            records.append(record)
        return records

    def coco_dataset(self, indices: Sequence[int], groups: np.ndarray | None = None) -> dict:
        """These images and their objects, without masks, as a whole json in LVIS's form.

        For hotcoco's batch evaluation with `lvis_style`. Its ids of images and classes start at 1,
        and a class is named by its number.

        Args:
            groups: (C,) of "r", "c", "f", which the categories then state.
        """
        categories = [
            {
                "id": number + 1,
                "name": str(number),
                "frequency": "f" if groups is None else groups[number],
            }
            for number in range(len(self.categories))
        ]
        everything = [category["id"] for category in categories]
        images, annotations = [], []
        for index in indices:
            # In COCO every class was looked for everywhere.
            image = {"neg_category_ids": everything, "not_exhaustive_category_ids": []}
            images.append(image | self.image_record(index))
            for record in self.annotation_records(index, masks=False):
                annotations.append(record | {"id": len(annotations) + 1})
        return {"images": images, "annotations": annotations, "categories": categories}

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
        without = np.flatnonzero(~self._file.negatives)
        if 0 < len(without) < len(self):
            raise DataError(
                f"{self.path}: image {self.image_id(without[0])!r} and {len(without) - 1} more "
                f"have no neg_category_ids, the others do; give them, or remove them from all "
                f"images if every class was annotated everywhere"
            )
        return not len(without)

    def _item(self, index: int) -> AnnotatedImage:
        """The image's text decoded; it is asked for several times in a row."""
        if self._last[0] != index:
            self._last = index, self._file.item(index)
        return self._last[1]

    def _own(self, index: int) -> slice:
        """The places of the image's annotations among all."""
        return slice(self._file.first[index], self._file.first[index + 1])

    def _classes(self, category_ids) -> list[int]:
        """Class numbers of the ids the file has categories for; no detection can have another."""
        return [self._class_of[id] for id in category_ids if id in self._class_of]

    def _segmentation(self, index: int, annotation: DatasetAnnotation) -> list | dict:
        segmentation = annotation.segmentation
        if not segmentation:
            raise DataError(
                f"{self.path}: the annotation of image {self.image_id(index)!r} at "
                f"{annotation.bbox} has no segmentation; add it, or evaluate boxes only, "
                f"with MODEL.MASK_ON False or tasks=('bbox',)"
            )
        if isinstance(segmentation, list):
            return segmentation
        return {"size": segmentation["size"], "counts": segmentation["counts"]}


def _area(annotation: DatasetAnnotation) -> float:
    """In pixels; that of the box where the file does not say."""
    if annotation.area is not None:
        return annotation.area
    return annotation.bbox[2] * annotation.bbox[3]

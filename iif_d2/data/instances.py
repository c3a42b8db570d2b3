"""LVIS and COCO json as Detectron2 dataset dicts, read by type and checked."""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from ..annotations.index import AnnotationIndex, Doubtful
from ..annotations.reading import drawn_polygons, read_index
from ..annotations.schema import DecodedAnnotation, Image
from ..errors import DataError
from .dicts import DatasetDicts, Labels

logger = logging.getLogger(__name__)


def load_instances(json_file: str, image_root: str) -> DatasetDicts:
    """The dataset dicts of an LVIS or COCO json, as Detectron2's own loaders give them.

    Category ids become contiguous in the order of their ids. An LVIS image lies under `image_root`
    at the last two parts of its `coco_url`, a COCO image at its `file_name`. Objects that nothing
    can be learned from (an empty box, a polygon of fewer than three points) are reported together;
    training leaves them out, as Detectron2 does. Crowds keep `iscrowd` in an LVIS json too.

    The file is checked now and its text kept; it may change or go away afterwards. A dict is made
    each time it is asked for, equal and new, so changing one changes no other: code that changes
    them takes `list(load_instances(...))`, which has the price of all dicts. See `DatasetDicts`.

    Raises:
        DataError: the file cannot be used; the message says which field, and what to do.
    """
    index = read_index(json_file)
    source = InstanceDicts(index, json_file, image_root)
    if not index.located.all():
        lost = np.flatnonzero(~index.located)
        source[lost[np.argmin(index.positions[lost])]]  # raises
    if index.repeated_id is not None:
        place, id = index.repeated_id
        raise DataError(
            f"{json_file}: annotations[{place}].id {id} is there twice; ids must be unique"
        )
    total = len(index.classes)
    _report(json_file, index.odd_boxes, total, "a 'bbox' that is empty or lies outside the image")
    what = "no polygon of three points or more in 'segmentation'"
    _report(json_file, index.odd_polygons, total, what)
    logger.info("%s: %d images, %d instances", json_file, len(index), total)
    return DatasetDicts([source])


class InstanceDicts:
    """The dicts of an index, made when asked for."""

    def __init__(self, index: AnnotationIndex, json_file: str, image_root: str) -> None:
        self._index, self._json_file, self._root = index, json_file, image_root
        self._federated = bool(index.negatives.any())
        self.category_ids = sorted(category.id for category in index.categories)
        self._contiguous = {id: place for place, id in enumerate(self.category_ids)}
        used = ~index.unusable
        first = np.concatenate([[0], np.cumsum(used)])[index.first]
        self.labels = Labels(index.sizes, first, index.classes[used], index.crowds[used])

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self._index.item(index)
        image = item.image
        record = {"file_name": self._path(index, image)}
        record |= {"height": image.height, "width": image.width}
        if self._federated:
            record["not_exhaustive_category_ids"] = image.not_exhaustive_category_ids or []
            record["neg_category_ids"] = image.neg_category_ids or []
        record["image_id"] = image.id
        make = self._lvis_instance if self._federated else self._coco_instance
        instances = map(make, item.annotations)
        record["annotations"] = [instance for instance in instances if instance is not None]
        return record

    def _path(self, index: int, image: Image) -> str:
        place = int(self._index.positions[index])
        return image_path(self._json_file, place, image, self._root, self._federated)

    # Each with its keys in the order of Detectron2's loader.

    def _lvis_instance(self, annotation: DecodedAnnotation) -> dict[str, Any] | None:
        instance = {
            "bbox": annotation.bbox,
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": self._contiguous[annotation.category_id],
        }
        if annotation.iscrowd is not None:
            instance["iscrowd"] = annotation.iscrowd
        return _with_mask(instance, annotation)

    def _coco_instance(self, annotation: DecodedAnnotation) -> dict[str, Any] | None:
        instance = {} if annotation.iscrowd is None else {"iscrowd": annotation.iscrowd}
        instance["bbox"] = annotation.bbox
        if annotation.keypoints is not None:
            instance["keypoints"] = centred(annotation.keypoints)
        instance["category_id"] = self._contiguous[annotation.category_id]
        if _with_mask(instance, annotation) is None:
            return None
        instance["bbox_mode"] = BoxMode.XYWH_ABS
        return instance


def _with_mask(instance: dict[str, Any], annotation: DecodedAnnotation) -> dict | None:
    """None if nothing can be learned from the mask."""
    mask = annotation.segmentation
    if isinstance(mask, dict):
        instance["segmentation"] = compressed_rle(mask)
    elif mask:
        polygons = drawn_polygons(mask)
        if not polygons:
            return None
        instance["segmentation"] = polygons
    return instance


def image_path(json_file: str, index: int, image: Image, root: str, federated: bool) -> str:
    """Where an image of the json lies; `federated` tells LVIS, which goes by `coco_url`.

    Raises:
        DataError: the json does not say.
    """
    from_url = "/".join(image.coco_url.split("/")[-2:]) if image.coco_url else None
    relative = (from_url or image.file_name) if federated else (image.file_name or from_url)
    if not relative:
        raise DataError(
            f"{json_file}: images[{index}] (id {image.id}) has neither 'file_name' nor 'coco_url'; "
            f"say where the image is"
        )
    return os.path.join(root, relative)


def centred(keypoints: list) -> list:
    """x, y and visibility of each; COCO counts pixels from 0, Detectron2 is at their centres."""
    return [v if place % 3 == 2 else v + 0.5 for place, v in enumerate(keypoints)]


def compressed_rle(rle: dict[str, Any]) -> dict[str, Any]:
    """A mask as pycocotools takes it, whichever way its runs are written."""
    if isinstance(rle["counts"], list):
        from pycocotools import mask

        return mask.frPyObjects(rle, *rle["size"])
    return rle


def _report(json_file: str, doubtful: Doubtful | None, total: int, what: str) -> None:
    if doubtful is not None:
        first = doubtful.first
        logger.warning(
            "%s: %d of %d annotations have %s; training leaves them out. First: "
            "annotations[%d] (id %s, image_id %s, bbox %s). Mend or remove them.",
            json_file, doubtful.count, total, what,
            doubtful.index, first.id, first.image_id, list(first.bbox),
        )  # fmt: skip

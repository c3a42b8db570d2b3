"""LVIS and COCO json as Detectron2 dataset dicts."""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_lvis_json
from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

from ..annotations.columns import Annotations
from ..annotations.masks import drawn_polygons
from ..annotations.reading import read_annotations, read_categories
from ..annotations.schema import DatasetAnnotation, Image
from ..errors import DataError
from ..files import local_path
from .class_order import check_class_order, is_in_json_order
from .dicts import DatasetDicts, DictLabels

logger = logging.getLogger(__name__)

# The keys of an object in the order of Detectron2's loaders.
_LVIS_KEYS = ("bbox", "bbox_mode", "category_id", "iscrowd", "segmentation")
_COCO_KEYS = ("iscrowd", "bbox", "keypoints", "category_id", "segmentation", "bbox_mode")


def load_instances(
    json_file: str, image_root: str, dataset_name: str | None = None
) -> DatasetDicts:
    """The dataset dicts of an LVIS or COCO json, as Detectron2's own loaders give them.

    Category ids become contiguous in the order of their ids. An LVIS image lies under `image_root`
    at the last two parts of its `coco_url`, a COCO image at its `file_name`. Objects that nothing
    can be learned from (an empty box, a polygon of fewer than three points) are reported together;
    training leaves them out, as Detectron2 does. A test set's json may have no annotations, which
    gives images without objects. Crowds keep `iscrowd` in an LVIS json too.

    The file is checked now and its text kept; it may change or go away afterwards. A dict is made
    each time it is asked for, equal and new, so changing one changes no other: code that changes
    them takes `list(load_instances(...))`, which has the price of all dicts. See `DatasetDicts`.

    Args:
        dataset_name: of a registered data set, whose metadata must have the classes in this order.

    Raises:
        DataError: the file cannot be used; the message says which field, and what to do.
        ConfigError: the metadata have another order of classes.
    """
    file = read_annotations(json_file)
    if file.unlocated is not None:
        image_path(json_file, *file.unlocated, image_root, bool(file.negatives.any()))  # raises
    if file.repeated_id is not None:
        place, id = file.repeated_id
        raise DataError(
            f"{json_file}: annotations[{place}].id {id} is there twice; ids must be unique"
        )
    if dataset_name is not None:
        check_class_order(dataset_name, json_file, file.categories)
    for doubt in file.doubts:
        logger.warning("%s: %s", json_file, doubt)
    logger.info("%s: %d images, %d instances", json_file, len(file), len(file.classes))
    return DatasetDicts([InstanceDicts(file, image_root)])


def load_builtin(name: str) -> DatasetDicts | list[dict]:
    """The dataset dicts of an embedded split, or of Detectron2's LVIS and COCO, by its metadata.

    In Detectron2's LVIS a class is its id less one; a json whose ids have holes is left to it.
    """
    metadata = MetadataCatalog.get(name)
    dicts = load_instances(PathManager.get_local_path(metadata.json_file), metadata.image_root)
    ids = dicts.sources[0].category_ids
    if name.startswith("lvis_") and ids != list(range(1, len(ids) + 1)):
        return load_lvis_json(metadata.json_file, metadata.image_root, name)
    return dicts


def require_json_order(name: str, json_file: str) -> None:
    """Refuse a data set that this package's loader would refuse for its order of classes.

    Raises:
        ConfigError: the metadata have another order.
    """
    ours = getattr(DatasetCatalog.data.get(name), "func", None) is load_instances
    if ours and not is_in_json_order(name, json_file):
        check_class_order(name, json_file, read_categories(json_file))


class InstanceDicts:
    """The dicts of an annotation file, made when asked for."""

    def __init__(self, file: Annotations, image_root: str) -> None:
        self._file, self._root = file, image_root
        self._federated = bool(file.negatives.any())
        self.category_ids = [category.id for category in file.categories]

    @property
    def labels(self) -> DictLabels:
        file, used = self._file, ~self._file.unusable
        first = np.concatenate([[0], np.cumsum(used)])[file.first]
        return DictLabels(file.sizes, first, file.classes[used], file.crowds[used])

    def __len__(self) -> int:
        return len(self._file)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self._file.item(index)
        image = item.image
        path = image_path(self._file.path, index, image, self._root, self._federated)
        record = {"file_name": path, "height": image.height, "width": image.width}
        if self._federated:
            record["not_exhaustive_category_ids"] = image.not_exhaustive_category_ids or []
            record["neg_category_ids"] = image.neg_category_ids or []
        record["image_id"] = image.id
        own = slice(*self._file.first[index : index + 2])
        unusable, classes = self._file.unusable[own].tolist(), self._file.classes[own].tolist()
        record["annotations"] = [
            self._instance(annotation, label)
            for annotation, label, out in zip(item.annotations, classes, unusable)
            if not out
        ]
        return record

    def _instance(self, annotation: DatasetAnnotation, label: int) -> dict[str, Any]:
        values = {
            "bbox": annotation.bbox,
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": label,
            "iscrowd": annotation.iscrowd,
            "keypoints": annotation.keypoints and centred(annotation.keypoints),
            "segmentation": drawn_mask(annotation.segmentation),
        }
        keys = _LVIS_KEYS if self._federated else _COCO_KEYS
        return {key: values[key] for key in keys if values[key] is not None}


def image_path(json_file: str, index: int, image: Image, root: str, federated: bool) -> str:
    """Where an image of the json lies; `federated` tells LVIS, which goes by `coco_url`.

    Raises:
        DataError: the json does not say, or names an address.
    """
    from_url = "/".join(image.coco_url.split("/")[-2:]) if image.coco_url else None
    relative = (from_url or image.file_name) if federated else (image.file_name or from_url)
    if not relative:
        raise DataError(
            f"{json_file}: images[{index}] (id {image.id}) has neither 'file_name' nor 'coco_url'; "
            f"say where the image is"
        )
    local_path(relative, f"{json_file}: images[{index}].file_name (id {image.id})")
    return os.path.join(root, relative)


def centred(keypoints: list) -> list:
    """x, y and visibility of each; COCO counts pixels from 0, Detectron2 is at their centres."""
    return [v if place % 3 == 2 else v + 0.5 for place, v in enumerate(keypoints)]


def drawn_mask(mask: list[list] | dict[str, Any] | None) -> list[list] | dict[str, Any] | None:
    """As pycocotools takes it, polygons of three points or runs compressed; None without a mask."""
    if isinstance(mask, dict) and isinstance(mask["counts"], list):
        from pycocotools.mask import frPyObjects

        return frPyObjects(mask, *mask["size"])
    return drawn_polygons(mask) or None if isinstance(mask, list) else mask

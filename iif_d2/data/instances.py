"""LVIS and COCO json as Detectron2 dataset dicts, read by type and checked."""

from __future__ import annotations

import logging
import os
from typing import Any

from detectron2.structures import BoxMode

from ..annotations import check_references, decode_json, paused_gc
from ..errors import DataError
from ..masks import check_geometry
from ..schema import Annotation, AnnotationFile, Image, Rle

logger = logging.getLogger(__name__)


@paused_gc()
def load_instances(json_file: str, image_root: str) -> list[dict[str, Any]]:
    """The dataset dicts of an LVIS or COCO json, as Detectron2's own loaders give them.

    Category ids become contiguous in the order of their ids. An LVIS image lies under `image_root`
    at the last two parts of its `coco_url`, a COCO image at its `file_name`. Objects that nothing
    can be learned from (an empty box, a polygon of fewer than three points) are reported together;
    training leaves them out, as Detectron2 does.

    Raises:
        DataError: the file cannot be used; the message says which field, and what to do.
    """
    content = decode_json(json_file, AnnotationFile, "an LVIS or COCO annotation file")
    check_references(json_file, content)
    check_geometry(json_file, content)
    _check_annotation_ids(json_file, content.annotations)
    contiguous = {
        category_id: index
        for index, category_id in enumerate(sorted(c.id for c in content.categories))
    }
    federated = any(image.neg_category_ids is not None for image in content.images)
    records = {}
    for index, image in enumerate(content.images):
        record = records[image.id] = {
            "file_name": image_path(json_file, index, image, image_root, federated),
            "height": image.height,
            "width": image.width,
            "image_id": image.id,
            "annotations": [],
        }
        if federated:
            record["neg_category_ids"] = image.neg_category_ids or []
            record["not_exhaustive_category_ids"] = image.not_exhaustive_category_ids or []
    doubtful = _Doubtful(json_file)
    for index, annotation in enumerate(content.annotations):
        record = records[annotation.image_id]
        x, y, width, height = annotation.bbox
        if not (width > 0 and height > 0 and x < record["width"] and y < record["height"]
                and x + width > 0 and y + height > 0):  # fmt: skip
            doubtful.boxes.append(index)
        instance = _instance(annotation, contiguous)
        if instance is None:
            doubtful.polygons.append(index)
        else:
            record["annotations"].append(instance)
    doubtful.report(content.annotations)
    logger.info("%s: %d images, %d instances", json_file, len(records), len(content.annotations))
    return [records[image_id] for image_id in sorted(records, key=_numbers_first)]


class _Doubtful:
    """Objects to be named in one warning, not in one each."""

    def __init__(self, json_file: str) -> None:
        self.json_file = json_file
        self.boxes: list[int] = []
        self.polygons: list[int] = []

    def report(self, annotations: list[Annotation]) -> None:
        for indices, what in (
            (self.boxes, "a 'bbox' that is empty or lies outside the image"),
            (self.polygons, "no polygon of three points or more in 'segmentation'"),
        ):
            if indices:
                first = annotations[indices[0]]
                logger.warning(
                    "%s: %d of %d annotations have %s; training leaves them out. First: "
                    "annotations[%d] (id %s, image_id %s, bbox %s). Mend or remove them.",
                    self.json_file, len(indices), len(annotations), what,
                    indices[0], first.id, first.image_id, list(first.bbox),
                )  # fmt: skip


def _instance(annotation: Annotation, contiguous: dict[int, int]) -> dict[str, Any] | None:
    instance = {
        "bbox": list(annotation.bbox),
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": contiguous[annotation.category_id],
    }
    if annotation.iscrowd is not None:
        instance["iscrowd"] = annotation.iscrowd
    segmentation = annotation.segmentation
    if isinstance(segmentation, Rle):
        instance["segmentation"] = compressed_rle(segmentation)
    elif segmentation:
        polygons = [p for p in segmentation if len(p) % 2 == 0 and len(p) >= 6]
        if not polygons:
            return None
        instance["segmentation"] = polygons
    return instance


def compressed_rle(rle: Rle) -> dict[str, Any]:
    """A mask as pycocotools takes it, whichever way its runs are written."""
    if isinstance(rle.counts, list):
        from pycocotools import mask

        return mask.frPyObjects({"size": list(rle.size), "counts": rle.counts}, *rle.size)
    return {"size": list(rle.size), "counts": rle.counts}


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


def _check_annotation_ids(json_file: str, annotations: list[Annotation]) -> None:
    seen = set()
    for index, annotation in enumerate(annotations):
        if annotation.id is not None and annotation.id in seen:
            raise DataError(
                f"{json_file}: annotations[{index}].id {annotation.id} is there twice; "
                f"ids must be unique"
            )
        seen.add(annotation.id)


def _numbers_first(image_id: int | str) -> tuple:
    return isinstance(image_id, str), image_id

"""Metadata hooks: a registered data set knows its class frequencies, counted when first used."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata

from ..annotations.formats import find, is_there
from ..annotations.reading import read_categories
from ..annotations.schema import Category
from ..errors import ConfigError, did_you_mean
from ..frequency import ClassFrequency
from .frequency import count_class_frequency
from .instances import load_instances


class LongTailMetadata(Metadata):
    """Detectron2's metadata, where what a json can tell is read from it when first asked for.

    `class_frequency` is a `ClassFrequency`; `class_image_count` is Detectron2's format for FedLoss;
    `class_dimension` is FRACAL's, float64 (C,).
    """

    def __getattr__(self, key: str) -> Any:
        read = _ON_FIRST_USE.get(key)
        if read is None or (value := read(self)) is None:
            return super().__getattr__(key)
        setattr(self, key, value)
        return value

    def __setattr__(self, key: str, value: Any) -> None:
        if key in _ON_FIRST_USE and key not in self.__dict__:
            self.__dict__[key] = value  # Detectron2 would read the old value first, and so count
        else:
            super().__setattr__(key, value)


def register_long_tail_instances(
    name: str, json_file: str, image_root: str | None = None, metadata: dict | None = None
) -> None:
    """Register annotations with Detectron2, for training and for evaluation as LVIS does.

    Annotations are not read now. Registering the same thing again under the same name does nothing.

    Args:
        name: what DATASETS.TRAIN and DATASETS.TEST call it.
        json_file: annotations: an LVIS or COCO json, YOLO's data.yaml, Pascal VOC xml, or a folder
            of one of them; which it is is found out by looking. Of several splits,
            `PATH:SPLIT` names one, such as `my/data.yaml:train`.
        image_root: the folder that the json's image paths start from, by default the json's own.
            YOLO and Pascal VOC say it themselves: leave it out.
        metadata: further keys for Detectron2's MetadataCatalog. Classes are in the order of the
            json's category ids; a key that says otherwise is refused when the data are first used.

    Raises:
        ConfigError: the name is taken by other data, or the pictures lie elsewhere.
        DataError: what is at the path is no annotations, or several of which one has to be named.

    Examples:
        >>> register_long_tail_instances("my_train", "my/train.json", "my/images")
        >>> MetadataCatalog.get("my_train").thing_classes
        ['square', 'disc', 'bar', 'never']
    """
    found = find(str(json_file))
    if image_root is None:
        image_root = found.root
    elif found.kind != "json" and os.path.realpath(image_root) != os.path.realpath(found.root):
        raise ConfigError(
            f"the pictures of {json_file} ({found.kind}) start from {found.root}, not from "
            f"image_root {image_root}; leave image_root out"
        )
    paths = {"json_file": str(json_file), "image_root": str(image_root)}
    if name in DatasetCatalog:
        known = MetadataCatalog.get(name)
        if all(getattr(known, key, None) == value for key, value in paths.items()):
            return
        raise ConfigError(f"a data set {name!r} is registered already; choose another name")
    DatasetCatalog.register(name, functools.partial(load_instances, *paths.values(), name))
    MetadataCatalog.get(name).set(**paths, evaluator_type="lvis", **(metadata or {}))
    attach_class_frequency(name)


def require_registered(name: str) -> None:
    """Raise `ConfigError` unless a data set of this name is registered in this process."""
    known = DatasetCatalog.list()
    if name not in known:
        raise ConfigError(
            f"data set {name!r} is not registered here; start the command with the code that "
            f"registers it (docs/data.md), by --import MODULE, or give --train, --val and --images "
            f"where the command has them{did_you_mean(name, known)}"
        )


def attach_class_frequency(name: str) -> None:
    """Give anybody's registered data set its lazy `class_frequency` and `class_image_count`.

    Examples:
        >>> attach_class_frequency("my_train")
        >>> MetadataCatalog.get("my_train").class_frequency.image_count.tolist()
        [5, 3, 2, 0]
    """
    metadata = MetadataCatalog.get(name)
    if type(metadata) is Metadata:
        # In place, since others may hold on to the object.
        object.__setattr__(metadata, "__class__", LongTailMetadata)


def _class_frequency(metadata: Metadata) -> ClassFrequency:
    return count_class_frequency(metadata.name)


def _class_image_count(metadata: Metadata) -> list[dict[str, int]]:
    frequency = metadata.class_frequency
    ids = metadata.get("thing_dataset_id_to_contiguous_id") or range(1, len(frequency) + 1)
    counts = frequency.image_count.tolist()
    return [{"id": id_, "image_count": count} for id_, count in zip(ids, counts)]


def _class_dimension(metadata: Metadata) -> np.ndarray:
    return count_class_frequency(metadata.name, dimension=True).dimension


def _thing_classes(metadata: Metadata) -> list[str] | None:
    categories = _categories(metadata)
    return categories and [category.name for category in categories]


def _contiguous_ids(metadata: Metadata) -> dict[int, int] | None:
    categories = _categories(metadata)
    return categories and {category.id: index for index, category in enumerate(categories)}


def _categories(metadata: Metadata) -> list[Category] | None:
    """The json's classes in contiguous order; None where there is no json to ask."""
    json_file = metadata.get("json_file")
    if not json_file or not is_there(json_file):
        return None
    return read_categories(json_file)


_ON_FIRST_USE = {
    "class_frequency": _class_frequency,
    "class_image_count": _class_image_count,
    "class_dimension": _class_dimension,
    "thing_classes": _thing_classes,
    "thing_dataset_id_to_contiguous_id": _contiguous_ids,
}

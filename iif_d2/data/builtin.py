"""Data sets that are there without asking: mini_lvis, and Detectron2's LVIS and COCO."""

from __future__ import annotations

import functools
import os
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from .dicts import DatasetDicts
from .instances import load_instances
from .mini_lvis import SPLITS, make_mini_lvis
from .registration import LongTailMetadata, attach_class_frequency


def datasets_root() -> str:
    """Where Detectron2 looks for data."""
    return os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))


class MiniMetadata(LongTailMetadata):
    """The metadata of an embedded split, whose files are made when first asked for."""

    def __getattr__(self, key: str) -> Any:
        if key in ("json_file", "image_root"):
            paths = make_mini_lvis(datasets_root(), self.name.rpartition("_")[2])
            self.json_file, self.image_root = paths
            return self.__dict__[key]
        return super().__getattr__(key)

    def __setattr__(self, key: str, value: Any) -> None:
        if key in ("json_file", "image_root") and key not in self.__dict__:
            self.__dict__[key] = value  # asking for the old value would make the files again
        else:
            super().__setattr__(key, value)


def load_mini(name: str) -> DatasetDicts:
    """The dataset dicts of an embedded split."""
    metadata = MetadataCatalog.get(name)
    return load_instances(metadata.json_file, metadata.image_root)


def register_builtin() -> None:
    """Register `mini_lvis_*`, give LVIS and COCO their frequencies; reads and makes nothing."""
    for split in SPLITS:
        name = f"mini_lvis_{split}"
        if name not in DatasetCatalog:
            DatasetCatalog.register(name, functools.partial(load_mini, name))
            MetadataCatalog[name] = MiniMetadata(name=name, evaluator_type="lvis")
    for name in DatasetCatalog.list():
        if name.startswith(("lvis_", "coco_")):
            attach_class_frequency(name)

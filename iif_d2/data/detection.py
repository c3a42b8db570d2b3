"""Detectron2's `get_detection_dataset_dicts` without making dicts that are kept as bytes."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.build import print_instances_class_histogram
from detectron2.data.datasets import register_coco_instances
from detectron2.data.datasets.lvis import register_lvis_instances
from detectron2.data.detection_utils import check_metadata_consistency
from detectron2.utils.file_io import PathManager
from torch.utils.data import Dataset

from ..errors import DataError
from .builtin import load_mini
from .dicts import DatasetDicts
from .instances import load_instances
from .registration import attach_class_frequency

__all__ = ["dataset_dicts", "detection_dicts"]

logger = logging.getLogger(__name__)

_BLOCK = 10_000  # objects whose classes are counted at a time


def dataset_dicts(name: str) -> Any:
    """`DatasetCatalog.get(name)`; `load_instances` reads what Detectron2's own loaders would."""
    load = _loader(name)
    return DatasetCatalog.get(name) if load is None else load()


def detection_dicts(
    names: str | Sequence[str],
    filter_empty: bool = True,
    min_keypoints: int = 0,
    proposal_files: Sequence[str] | None = None,
    check_consistency: bool = True,
) -> list[dict] | DatasetDicts | Dataset:
    """Arguments and result of Detectron2's function, which is asked about other than LVIS and COCO.

    Raises:
        DataError: a data set is empty, or nothing in it has objects.
    """
    names = [names] if isinstance(names, str) else list(names)
    usual = names and not min_keypoints and not proposal_files
    if not usual or any(_loader(name) is None for name in names):
        return get_detection_dataset_dicts(
            names, filter_empty, min_keypoints, proposal_files, check_consistency
        )
    loaded = [dataset_dicts(name) for name in names]
    for name, dicts in zip(names, loaded):
        if not len(dicts):
            where = MetadataCatalog.get(name).get("json_file", f"data set {name!r}")
            raise DataError(f"{where}: 'images' is empty; there is nothing to train or evaluate on")
    parts = [d if isinstance(d, DatasetDicts) else DatasetDicts.of(d) for d in loaded]
    dicts = functools.reduce(DatasetDicts.__add__, parts)
    if filter_empty:
        usable = dicts.has_objects()
        logger.info(
            "%d images without usable annotations are left out, %d remain",
            len(dicts) - usable.sum(), usable.sum(),
        )  # fmt: skip
        dicts = dicts.take(usable)
    if check_consistency:
        _check_classes(names, dicts)
    if not len(dicts):
        raise DataError(f"no image of {', '.join(names)} has an object to learn from")
    return dicts


def _loader(name: str) -> Callable[[], Any] | None:
    """What gives the data set's dicts as bytes, if that is known."""
    load = DatasetCatalog[name] if name in DatasetCatalog else None
    if isinstance(load, functools.partial) and load.func in (load_instances, load_mini):
        return load
    # Those that Detectron2's register_lvis_instances and register_coco_instances made.
    if getattr(load, "__code__", None) in _DETECTRON2S:
        given = inspect.getclosurevars(load).nonlocals
        if not {"json_file", "image_root"} <= given.keys():
            return None
        json_file, image_root = (os.fspath(given[key]) for key in ("json_file", "image_root"))
        # Of these Detectron2 takes annotations that no other json may have.
        if "minival" not in json_file and "cocofied" not in name:
            lvis = load.__code__ is _DETECTRON2S[0]
            return functools.partial(_load_detectron2s, name, json_file, image_root, lvis)
    return None


def _load_detectron2s(name: str, json_file: str, image_root: str, lvis: bool) -> Any:
    dicts = load_instances(PathManager.get_local_path(json_file), image_root)
    ids = dicts.sources[0].category_ids
    if lvis and ids != list(range(1, len(ids) + 1)):
        return DatasetCatalog.get(name)  # where a class is its id less one
    attach_class_frequency(name)  # and names, which Detectron2's loader for COCO would set
    return dicts


def _check_classes(names: Sequence[str], dicts: DatasetDicts) -> None:
    """As Detectron2's function does."""
    try:
        class_names = MetadataCatalog.get(names[0]).thing_classes
        check_metadata_consistency("thing_classes", names)
    except AttributeError:  # the data set does not say its classes
        return
    print_instances_class_histogram(_blocks(dicts), class_names)


def _blocks(dicts: DatasetDicts) -> Iterator[dict]:
    """All objects, some thousands in a record: Detectron2 makes a histogram of each record."""
    objects: list[dict] = []
    for record in dicts.labels():
        objects += record["annotations"]
        if len(objects) > _BLOCK:
            yield {"annotations": objects}
            objects = []
    yield {"annotations": objects}


def _lambda_code(function: types.FunctionType) -> types.CodeType | None:
    """That of the only function that this one makes."""
    made = [c for c in function.__code__.co_consts if isinstance(c, types.CodeType)]
    return made[0] if len(made) == 1 else None


_DETECTRON2S = (_lambda_code(register_lvis_instances), _lambda_code(register_coco_instances))

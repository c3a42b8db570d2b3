"""Detectron2's `get_detection_dataset_dicts` without making dicts that are kept as bytes."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from itertools import chain

from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.build import print_instances_class_histogram
from detectron2.data.detection_utils import check_metadata_consistency
from torch.utils.data import Dataset

from ..errors import DataError
from ..files import local_record
from .dicts import DatasetDicts
from .instances import load_builtin, load_instances

__all__ = ["detection_dicts"]

logger = logging.getLogger(__name__)


def detection_dicts(
    names: str | Sequence[str],
    filter_empty: bool = True,
    min_keypoints: int = 0,
    proposal_files: Sequence[str] | None = None,
    check_consistency: bool = True,
) -> list[dict] | DatasetDicts | Dataset:
    """Arguments and result of Detectron2's function, which is asked about what it loads itself.

    Raises:
        DataError: a data set is empty, nothing in it has objects, or its json names an address.
    """
    names = [names] if isinstance(names, str) else list(names)
    usual = names and not min_keypoints and not proposal_files
    if not usual or not all(map(_made_when_asked_for, names)):
        dicts = get_detection_dataset_dicts(
            names, filter_empty, min_keypoints, proposal_files, check_consistency
        )
        # Detectron2's own mapper, which a LazyConfig may name, would fetch what a json names.
        if any(MetadataCatalog.get(name).get("json_file") for name in names):
            for record in dicts if isinstance(dicts, Sequence) else ():
                local_record(record)
        return dicts
    loaded = [DatasetCatalog.get(name) for name in names]
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
        raise DataError(
            f"no image of {', '.join(names)} has an object to learn from; add some, and see that "
            f"not all have iscrowd 1"
        )
    return dicts


def _made_when_asked_for(name: str) -> bool:
    load = DatasetCatalog[name] if name in DatasetCatalog else None
    return isinstance(load, functools.partial) and load.func in (load_instances, load_builtin)


def _check_classes(names: Sequence[str], dicts: DatasetDicts) -> None:
    """As Detectron2's function does."""
    try:
        class_names = MetadataCatalog.get(names[0]).thing_classes
        check_metadata_consistency("thing_classes", names)
    except AttributeError:  # the data set does not say its classes
        return
    # As one record, since Detectron2 makes a histogram of each.
    objects = chain.from_iterable(record["annotations"] for record in dicts.labels())
    print_instances_class_histogram([{"annotations": objects}], class_names)

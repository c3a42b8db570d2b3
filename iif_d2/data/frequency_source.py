"""Which class frequencies a config means."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..errors import ConfigError, DataError, IIFError
from ..frequency import (
    ClassFrequency,
    class_name_mismatch,
    count_class_frequency,
    load_frequency,
)
from ..methods import DeferredFrequency


def config_frequency(cfg: CfgNode) -> DeferredFrequency:
    """The counts of MODEL.LONG_TAIL.FREQUENCY, or of DATASETS.TRAIN; nothing is read yet."""
    return deferred_frequency(
        cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        cfg.DATASETS.TRAIN,
        cfg.MODEL.LONG_TAIL.FREQUENCY,
        cfg.OUTPUT_DIR,
    )


def deferred_frequency(
    num_classes: int,
    datasets: str | Sequence[str],
    source: str = "",
    cache_dir: str | None = None,
) -> DeferredFrequency:
    """The counts of `source`, or of the data sets where that is empty; nothing is read yet.

    Args:
        source: as MODEL.LONG_TAIL.FREQUENCY.
        cache_dir: see `count_class_frequency`.
    """
    train = (datasets,) if isinstance(datasets, str) else tuple(datasets)
    resolve = functools.partial(_resolve, source, train, cache_dir)
    return DeferredFrequency(num_classes, resolve, source or " + ".join(train))


def known_frequency(deferred: DeferredFrequency) -> ClassFrequency | None:
    """The counts, or None where they cannot be had: evaluation needs no training data."""
    try:
        return deferred.resolve()
    except IIFError:
        return None


def _resolve(source: str, train: Sequence[str], cache_dir: str | None) -> ClassFrequency:
    frequency = _counts(source, train, cache_dir)
    if not frequency.image_count.any():
        files = [MetadataCatalog.get(n).get("json_file", n) for n in train if n in DatasetCatalog]
        raise DataError(
            f"{source or ', '.join(files)}: no class has a single training image; check "
            f"'annotations'"
        )
    return frequency


def _counts(source: str, train: Sequence[str], cache_dir: str | None) -> ClassFrequency:
    if not source and not train:
        raise ConfigError("no class frequencies: set MODEL.LONG_TAIL.FREQUENCY or DATASETS.TRAIN")
    if not source:
        return ClassFrequency.sum([count_class_frequency(n, cache_dir=cache_dir) for n in train])
    if not os.path.isfile(source):
        return count_class_frequency(source, cache_dir=cache_dir)
    frequency = load_frequency(source, cache_dir)
    for name in train:
        _check_class_names(source, frequency, name)
    return frequency


def _check_class_names(source: str, frequency: ClassFrequency, dataset: str) -> None:
    """A file of other classes would weigh the wrong ones; names that are there must agree."""
    metadata = MetadataCatalog.get(dataset) if dataset in DatasetCatalog else {}
    json_file = metadata.get("json_file")
    if json_file and not os.path.isfile(json_file) and "thing_classes" not in vars(metadata):
        return  # inference without the training data
    names = metadata.get("thing_classes")
    if names is None or len(names) != len(frequency):
        return  # the class counts are compared where both are known
    mismatch = class_name_mismatch(frequency.class_names, names)
    if mismatch:
        raise ConfigError(
            f"MODEL.LONG_TAIL.FREQUENCY {source} is of other classes than {dataset}: {mismatch}; "
            f"count {dataset} instead"
        )

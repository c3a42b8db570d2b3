"""Which classes a model has: the names in its checkpoint, held to those of the data it meets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from torch import nn

from ..data import attach_class_frequency
from ..errors import CheckpointError, IIFError
from ..frequency import ClassFrequency, class_name_mismatch

KEY = "class_names"  # of a checkpoint


def data_class_names(dataset: str) -> tuple[str, ...] | None:
    """The class names of a registered data set in contiguous order; None if they cannot be had."""
    if dataset not in DatasetCatalog:
        return None
    attach_class_frequency(dataset)  # which reads them from the json
    try:
        names = MetadataCatalog.get(dataset).get("thing_classes")
    except IIFError:  # whoever needs the file says what is wrong with it
        return None
    return tuple(map(str, names)) if names else None


def first_class_names(datasets: Iterable[str]) -> tuple[str, ...] | None:
    """Those of the first of these data sets that tells its classes."""
    return next(filter(None, map(data_class_names, datasets)), None)


def known_class_names(
    model: nn.Module, datasets: Iterable[str], frequency: ClassFrequency | None
) -> tuple[str, ...] | None:
    """What a loaded model calls its classes: its checkpoint's names, else the data's or counts'."""
    names = getattr(model, "class_names", None) or first_class_names(datasets)
    return tuple(names or ()) or (frequency and frequency.class_names)


def saved_class_names(checkpoint: dict[str, Any]) -> tuple[str, ...] | None:
    """The names that a checkpoint carries; None for one of version 0.1.0 or of another program."""
    names = checkpoint.get(KEY)
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


def disagreement(trained: Sequence[str] | None, dataset: str) -> str | None:
    """How the data set's classes disagree with a model's of the same number, if they do."""
    names = data_class_names(dataset)
    if trained is None or names is None or len(names) != len(trained):
        return None  # where the numbers differ, the sizes of layers do
    return class_name_mismatch(trained, names)


def check_class_names(model: nn.Module, dataset: str) -> None:
    """Refuse a data set that means other classes than the model by an index.

    Args:
        model: of `load_trained_model`, which has looked at DATASETS already.
        dataset: a registered name; one that does not tell its classes is not compared.

    Raises:
        CheckpointError: names the first class that differs.
    """
    if mismatch := disagreement(getattr(model, KEY, None), dataset):
        raise CheckpointError(
            f"the model was trained on other classes than data set {dataset} has: {mismatch}; "
            f"give the categories of both the same ids, or train on this order"
        )

"""What a run is refused for before its first step."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..checkpoint import first_class_names
from ..data import attach_class_frequency
from ..errors import ConfigError, did_you_mean
from ..frequency import class_name_mismatch

_NAMED = 3  # classes that a message lists


def check_datasets(names: Sequence[str], num_classes: int | None, key: str) -> None:
    """Raise `ConfigError` unless the data sets are there and have the model's number of classes.

    Args:
        num_classes: where it is None, as of a model without ROI heads, it is not compared.
        key: what says that number.
    """
    for name in names:
        classes = _classes(name)
        if None not in (classes, num_classes) and len(classes) != num_classes:
            raise ConfigError(
                f"{key} is {num_classes}, but data set {name} has {len(classes)} classes; set it "
                f"to {len(classes)}"
            )


def check_test_sets(
    names: Sequence[str],
    num_classes: int | None,
    key: str,
    training: Sequence[str],
    learned: Sequence[str] | None = None,
) -> None:
    """Raise `ConfigError` unless the data sets are there and of training's classes, in its order.

    Args:
        num_classes: the model's, if that is known.
        key: what says that number.
        training: registered names of the data that the model learns from.
        learned: the class names in its checkpoint; by default those of `training`.
    """
    learned = learned or first_class_names(training)
    for name in names:
        classes = _classes(name)
        if name in training or classes is None:
            continue
        if learned is not None and num_classes in (None, len(learned)):
            _compare(_where(name), classes, learned)
        elif num_classes not in (None, len(classes)):
            raise ConfigError(
                f"the model has {num_classes} classes ({key}), but test set {_where(name)} has "
                f"{len(classes)}; list all of training's in its 'categories', with the same ids, "
                f"or set {key} to {len(classes)} if the model was trained on those"
            )


def _classes(name: str) -> Sequence[str] | None:
    """A data set's class names; None if it does not tell them."""
    if name not in DatasetCatalog:
        raise ConfigError(
            f"DATASETS names {name!r}, which is not registered; call "
            f"iif_d2.register_long_tail_instances first, or check the "
            f"name{did_you_mean(name, DatasetCatalog.list())}"
        )
    attach_class_frequency(name)
    return MetadataCatalog.get(name).get("thing_classes")


def _where(name: str) -> str:
    """The data set and the file that its classes come from."""
    json_file = MetadataCatalog.get(name).get("json_file")
    return f"{name} ({json_file})" if json_file else name


def _compare(test_set: str, classes: Sequence[str], learned: Sequence[str]) -> None:
    if len(classes) != len(learned):
        alone = {
            "training": set(learned) - set(classes),
            "the test set": set(classes) - set(learned),
        }
        which = [
            f"{where} alone has {', '.join(map(repr, sorted(found)[:_NAMED]))}"
            f"{' ...' if len(found) > _NAMED else ''}"
            for where, found in alone.items()
            if found
        ]
        raise ConfigError(
            f"test set {test_set} has {len(classes)} classes, and training has {len(learned)}"
            f"{': ' if which else ''}{', '.join(which)}; list all of training's in its "
            f"'categories', with the same ids, also those without an object"
        )
    if mismatch := class_name_mismatch(learned, classes):
        raise ConfigError(
            f"training and test set {test_set} are of other classes: {mismatch}; give the "
            f"'categories' of both the same ids"
        )


def check_expected_results(cfg: CfgNode) -> None:
    """Raise `ConfigError` unless TEST.EXPECTED_RESULTS can be compared with the last results."""
    for row in cfg.TEST.EXPECTED_RESULTS:
        sound = isinstance(row, (list, tuple)) and len(row) == 4
        sound = sound and all(isinstance(word, str) for word in row[:2])
        if not sound or not all(isinstance(number, (int, float)) for number in row[2:]):
            raise ConfigError(
                f"TEST.EXPECTED_RESULTS has {row!r}; an entry is [task, metric, number, tolerance]"
            )

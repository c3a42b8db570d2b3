"""Which class frequencies a file, a name or a config means.

Files and the packaged names are counted without Detectron2.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..annotations.formats import find, is_there
from ..annotations.reading import read_categories
from ..annotations.tables import count_table, is_table
from ..errors import ConfigError, DataError, IIFError, did_you_mean
from ..frequency import ClassFrequency, DeferredFrequency, FrequencySource, class_name_mismatch
from ..groups import GROUP_LIMITS, check_group_limits, sparse_groups, stated_groups
from .counting import count_dicts, count_json
from .dimension import BoxCentres

try:
    from detectron2.data import DatasetCatalog, MetadataCatalog
except ImportError:
    DatasetCatalog = MetadataCatalog = {}

if TYPE_CHECKING:
    from detectron2.config import CfgNode

logger = logging.getLogger(__name__)

_said: set[str] = set()  # of groups, once a process

_PACKAGED = os.path.join(os.path.dirname(__file__), "counts")


def count_class_frequency(
    source: str | os.PathLike | Iterable[dict],
    class_names: Sequence[str] | None = None,
    cache_dir: str | None = None,
    dimension: bool = False,
) -> ClassFrequency:
    """Count images and instances of each class (Eq. 1).

    Crowds count, as in the numbers that LVIS and COCO publish. A class that has nothing else counts
    as never seen, since training leaves crowds out and so learns nothing of it.

    Args:
        source: the name of a data set registered with Detectron2, a path to annotations (LVIS or
            COCO json, YOLO's data.yaml, a folder of Pascal VOC, see `annotations.formats`)
            or to a Parquet, CSV or JSON-lines table of labels (counted out of core, see `tables`),
            or a list of Detectron2 dataset dicts. `lvis_v1_train`, `lvis_v0.5_train` and
            `coco_2017_train` need no data on disk: their counts are packaged.
        class_names: for dataset dicts, which carry none, by default "0", "1", ... up to the
            highest category_id; for a table its classes in order, by default sorted.
        cache_dir: where counts of a json are kept, by the file's content; None keeps nothing.
        dimension: also measure the box-counting dimension of each class, which FRACAL needs. That
            reads the boxes, too, and so needs the json, or dicts with boxes and image sizes.

    Raises:
        DataError: the source cannot be counted; the message says which file, which field, and what
            to do.

    Examples:
        >>> count_class_frequency("lvis_v1_train").image_count[:3]
        array([  64,  364, 1911])
    """
    if not isinstance(source, (str, os.PathLike)):
        dicts = list(source) if dimension else source
        frequency = count_dicts(dicts, class_names)
        if not dimension:
            return frequency
        centres = BoxCentres.of_dicts(dicts)
        return dataclasses.replace(frequency, dimension=centres.dimension(len(frequency)))
    if dimension:
        return _measure("", [os.fspath(source)], cache_dir)
    path = os.fspath(source)
    if is_table(path):
        return ClassFrequency(*count_table(path, class_names))
    if is_annotations(path):
        return count_json(path, cache_dir)
    return _count_registered(path, cache_dir)


def is_annotations(source: str) -> bool:
    """Whether it is a path. A folder that is called as a registered data set is none."""
    if source.endswith(".json") or os.path.isfile(source):
        return True
    return source not in DatasetCatalog and is_there(source)


def not_a_source(name: str) -> DataError:
    """The error for a name that is neither a path nor registered."""
    return DataError(
        f"{name!r} is neither a file nor a registered data set; register it with "
        f"iif_d2.register_long_tail_instances, or check the name and the "
        f"path{did_you_mean(name, DatasetCatalog)}"
    )


def load_frequency(path: str, cache_dir: str | None = None) -> ClassFrequency:
    """A saved `ClassFrequency`, or the counts of an annotation json, whichever the file holds.

    Raises:
        DataError: it is neither.
    """
    if _is_saved(path):
        return ClassFrequency.load(path)
    return count_class_frequency(path, cache_dir=cache_dir)


def _is_saved(path: str) -> bool:
    """Whether `ClassFrequency.save` wrote it, and not an annotation json."""
    from ..annotations.decoding import decode_json
    from ..annotations.schema import FormatProbe

    if find(path).kind != "json":
        return False
    return decode_json(path, FormatProbe, "a json file with class frequencies").format is not None


def annotation_file(source: str) -> str | None:
    """The annotations that counting this source would read; None for another kind of source."""
    if is_table(source):
        return None
    if is_annotations(source):
        return source
    if source not in MetadataCatalog:
        return None
    return getattr(MetadataCatalog.get(source), "json_file", None)


def packaged_frequency(name: str) -> ClassFrequency | None:
    """The counts that come with the package for a data set of this name, or None."""
    path = os.path.join(_PACKAGED, f"{name}.json")
    return ClassFrequency.load(path) if os.path.isfile(path) else None


def class_count(cfg: CfgNode) -> tuple[int, str]:
    """How many classes the model has, and the key that says so.

    Examples:
        >>> from detectron2.config import get_cfg
        >>> class_count(get_cfg())
        (80, 'MODEL.ROI_HEADS.NUM_CLASSES')
    """
    node = "RETINANET" if cfg.MODEL.META_ARCHITECTURE == "RetinaNet" else "ROI_HEADS"
    return cfg.MODEL[node].NUM_CLASSES, f"MODEL.{node}.NUM_CLASSES"


def config_frequency(cfg: CfgNode) -> DeferredFrequency:
    """The counts of MODEL.LONG_TAIL.FREQUENCY, or of DATASETS.TRAIN; nothing is read yet."""
    return deferred_frequency(
        class_count(cfg)[0],
        cfg.DATASETS.TRAIN,
        cfg.MODEL.LONG_TAIL.FREQUENCY,
        cfg.OUTPUT_DIR,
        cfg.MODEL.LONG_TAIL.GROUP_LIMITS,
    )


def deferred_frequency(
    num_classes: int,
    datasets: str | Sequence[str],
    source: str = "",
    cache_dir: str | None = None,
    group_limits: Sequence[int] = GROUP_LIMITS,
) -> DeferredFrequency:
    """The counts of `source`, or of the data sets where that is empty; nothing is read yet.

    Which classes are rare is settled with them: as the annotation file states, else by the limits.

    Args:
        source: as MODEL.LONG_TAIL.FREQUENCY.
        cache_dir: see `count_class_frequency`.
        group_limits: as MODEL.LONG_TAIL.GROUP_LIMITS.

    Raises:
        ConfigError: limits that cannot be.
    """
    check_group_limits("MODEL.LONG_TAIL.GROUP_LIMITS", group_limits)
    train = (datasets,) if isinstance(datasets, str) else tuple(datasets)
    arguments = source, train, cache_dir, tuple(group_limits)
    return DeferredFrequency(
        num_classes,
        functools.partial(_resolve, *arguments),
        source or " + ".join(train),
        functools.partial(_measure, *arguments),
    )


def known_frequency(deferred: FrequencySource) -> ClassFrequency | None:
    """The counts, or None where they cannot be had: evaluation needs no training data."""
    try:
        return deferred.resolve()
    except IIFError:
        return None


def with_dimension(frequency: ClassFrequency, source: FrequencySource) -> ClassFrequency:
    """The same counts with the source's dimensions; without, and a warning, where it has none."""
    if frequency.dimension is not None:
        return frequency
    try:
        dimension = source.measured().dimension
        return dataclasses.replace(frequency, dimension=dimension)
    except IIFError as error:
        logger.warning("no box-counting dimensions: %s", error)
        return frequency


def _resolve(
    source: str,
    train: Sequence[str],
    cache_dir: str | None,
    limits: tuple[int, int] | None = None,
) -> ClassFrequency:
    if not source and not train:
        raise ConfigError("no class frequencies: set MODEL.LONG_TAIL.FREQUENCY or DATASETS.TRAIN")
    if os.path.isfile(source):
        frequency = load_frequency(source, cache_dir)
        for name in train:
            _check_class_names(source, frequency, name)
        if frequency.class_groups is None:  # an older version saved none
            stated = _stated_groups(train, len(frequency))
            frequency = dataclasses.replace(frequency, class_groups=stated)
    else:
        names = [source] if source else train
        parts = [count_class_frequency(name, cache_dir=cache_dir) for name in names]
        frequency = ClassFrequency.sum(parts)
    if not frequency.image_count.any():
        files = [MetadataCatalog.get(n).get("json_file", n) for n in train if n in DatasetCatalog]
        raise DataError(
            f"{source or ', '.join(files)}: no class has a single training image; check "
            f"'annotations', and that not all have iscrowd 1"
        )
    if limits is None:
        return frequency
    stated = frequency.class_groups is not None
    frequency = frequency.grouped(*limits)
    _say_groups(source or " + ".join(train), stated, frequency, limits)
    return frequency


def _measure(
    source: str,
    train: Sequence[str],
    cache_dir: str | None,
    limits: tuple[int, int] | None = None,
) -> ClassFrequency:
    """`_resolve` with dimensions, which those of a saved file may have already."""
    frequency = _resolve(source, train, cache_dir, limits)
    if frequency.dimension is not None or (os.path.isfile(source) and _is_saved(source)):
        return frequency.measured()
    names = [source] if source else list(train)
    files = [annotation_file(name) for name in names]

    def compute() -> ClassFrequency:
        centres = BoxCentres.joined([_centres(*pair) for pair in zip(names, files)])
        return dataclasses.replace(frequency, dimension=centres.dimension(len(frequency)))

    there = [file for file in files if file and is_there(file)]
    if cache_dir is None or len(there) < len(files):
        return compute()
    from ..annotations.sources import source_digest
    from ..files import cached

    key = "_".join(map(source_digest, there))
    return cached(
        os.path.join(cache_dir, f"class_dimension_{key}.json"), compute, ClassFrequency.load
    )


def _centres(name: str, file: str | None) -> BoxCentres:
    """The box centres of one data set, whose annotations are in the json `file`, if any."""
    if file and is_there(file):
        return BoxCentres.of_json(file)
    if file or name not in DatasetCatalog:
        raise DataError(
            f"the dimensions of {name} need its boxes, and "
            + (f"{file} is not there" if file else "it is neither a json nor registered")
            + "; give its annotation json, or set MODEL.LONG_TAIL.FREQUENCY to what `python -m "
            "iif_d2 frequency SOURCE --dimension --output FILE` wrote where it is"
        )
    return BoxCentres.of_dicts(DatasetCatalog.get(name))


def _say_groups(
    name: str, stated: bool, frequency: ClassFrequency, limits: tuple[int, int]
) -> None:
    """Warn of groups with next to no class, and of limits that decide nothing."""
    words = [sparse_groups(frequency.groups())]
    if words[0] and not stated:
        words[0] += f"; set MODEL.LONG_TAIL.GROUP_LIMITS, now {limits}, to fit this set"
    if stated and limits != GROUP_LIMITS:
        words.append(
            f"MODEL.LONG_TAIL.GROUP_LIMITS {limits} is not used, since the group of each class is "
            f"stated there; take that out to go by the limits"
        )
    for text in filter(None, words):
        if f"{name}: {text}" not in _said:
            _said.add(f"{name}: {text}")
            logger.warning("%s: %s", name, text)


def _stated_groups(train: Sequence[str], classes: int) -> np.ndarray | None:
    """The groups that the training json of so many classes states; None where it is not there, or
    several state different ones."""
    found = []
    for name in train:
        metadata = MetadataCatalog.get(name) if name in DatasetCatalog else {}
        json_file = metadata.get("json_file")
        if not json_file or not is_there(json_file):
            return None
        groups = stated_groups([category.frequency for category in read_categories(json_file)])
        if groups is None or len(groups) != classes:
            return None
        found.append(groups)
    same = found and all(np.array_equal(groups, found[0]) for groups in found)
    return found[0] if same else None


def _check_class_names(source: str, frequency: ClassFrequency, dataset: str) -> None:
    """A file of other classes would weigh the wrong ones; names that are there must agree."""
    metadata = MetadataCatalog.get(dataset) if dataset in DatasetCatalog else {}
    json_file = metadata.get("json_file")
    if json_file and not is_there(json_file) and "thing_classes" not in vars(metadata):
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


def _count_registered(name: str, cache_dir: str | None) -> ClassFrequency:
    packaged = packaged_frequency(name)
    if name not in DatasetCatalog:
        if packaged is not None:
            return packaged
        raise not_a_source(name)
    from .class_order import is_in_json_order

    metadata = MetadataCatalog.get(name)
    known = vars(metadata).get("class_frequency")
    if known is not None:
        return known
    json_file = getattr(metadata, "json_file", None)
    if packaged is not None and not (json_file and is_there(json_file)):
        return packaged
    if json_file and is_in_json_order(name, json_file):
        frequency = count_json(json_file, cache_dir)
        if packaged is not None and not packaged.same_counts(frequency):
            logger.warning(
                "%s has %s; the published %s has %s. The file's counts are used.",
                json_file, frequency.describe(), name, packaged.describe(),
            )  # fmt: skip
        return frequency
    dicts = DatasetCatalog.get(name)  # first: many loaders only then say their classes
    class_names = metadata.get("thing_classes")
    if class_names is None:
        raise DataError(
            f"data set {name!r} does not say its classes; "
            f"set MetadataCatalog.get({name!r}).thing_classes"
        )
    return count_dicts(dicts, class_names)

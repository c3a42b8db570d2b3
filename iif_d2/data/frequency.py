"""Which class frequencies a file, a name or a config means.

Files and the packaged names are counted without Detectron2.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..annotations.tables import count_table, is_table
from ..errors import ConfigError, DataError, IIFError
from ..frequency import ClassFrequency, DeferredFrequency, FrequencySource, class_name_mismatch

try:
    from detectron2.data import DatasetCatalog, MetadataCatalog
except ImportError:
    DatasetCatalog = MetadataCatalog = {}

if TYPE_CHECKING:
    from detectron2.config import CfgNode

logger = logging.getLogger(__name__)

_PACKAGED = os.path.join(os.path.dirname(__file__), "counts")


def count_class_frequency(
    source: str | os.PathLike | Iterable[dict],
    class_names: Sequence[str] | None = None,
    cache_dir: str | None = None,
) -> ClassFrequency:
    """Count images and instances of each class (Eq. 1).

    Crowds count, as in the numbers that LVIS and COCO publish. A class that has nothing else counts
    as never seen, since training leaves crowds out and so learns nothing of it.

    Args:
        source: the name of a data set registered with Detectron2, a path to an LVIS or COCO json
            or to a Parquet, CSV or JSON-lines table of labels (counted out of core, see `tables`),
            or a list of Detectron2 dataset dicts. `lvis_v1_train`, `lvis_v0.5_train` and
            `coco_2017_train` need no data on disk: their counts are packaged.
        class_names: for dataset dicts, which carry none, by default "0", "1", ... up to the
            highest category_id; for a table its classes in order, by default sorted.
        cache_dir: where counts of a json are kept, by the file's content; None keeps nothing.

    Raises:
        DataError: the source cannot be counted; the message says which file, which field, and what
            to do.

    Example:
        >>> count_class_frequency("lvis_v1_train").image_count[:3]
        array([  64,  364, 1911])
    """
    if not isinstance(source, (str, os.PathLike)):
        return _count_dicts(source, class_names)
    path = os.fspath(source)
    if is_table(path):
        return ClassFrequency(*count_table(path, class_names))
    if path.endswith(".json") or os.path.isfile(path):
        return _count_json(path, cache_dir)
    return _count_registered(path, cache_dir)


def load_frequency(path: str, cache_dir: str | None = None) -> ClassFrequency:
    """A saved `ClassFrequency`, or the counts of an annotation json, whichever the file holds.

    Raises:
        DataError: it is neither.
    """
    from ..annotations.decoding import decode_json
    from ..annotations.schema import FormatProbe

    if decode_json(path, FormatProbe, "a json file with class frequencies").format is not None:
        return ClassFrequency.load(path)
    return count_class_frequency(path, cache_dir=cache_dir)


def annotation_file(source: str) -> str | None:
    """The json that counting this source would read; None where it is another kind of source."""
    if is_table(source):
        return None
    if source.endswith(".json") or os.path.isfile(source):
        return source
    if source not in MetadataCatalog:
        return None
    return getattr(MetadataCatalog.get(source), "json_file", None)


def packaged_frequency(name: str) -> ClassFrequency | None:
    """The counts that come with the package for a data set of this name, or None."""
    path = os.path.join(_PACKAGED, f"{name}.json")
    return ClassFrequency.load(path) if os.path.isfile(path) else None


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


def known_frequency(deferred: FrequencySource) -> ClassFrequency | None:
    """The counts, or None where they cannot be had: evaluation needs no training data."""
    try:
        return deferred.resolve()
    except IIFError:
        return None


def _resolve(source: str, train: Sequence[str], cache_dir: str | None) -> ClassFrequency:
    if not source and not train:
        raise ConfigError("no class frequencies: set MODEL.LONG_TAIL.FREQUENCY or DATASETS.TRAIN")
    if os.path.isfile(source):
        frequency = load_frequency(source, cache_dir)
        for name in train:
            _check_class_names(source, frequency, name)
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


def _count_json(path: str, cache_dir: str | None) -> ClassFrequency:
    if cache_dir is None:
        return _count_labels(path)
    from ..files import cached, content_key

    key = content_key(path)
    return cached(
        os.path.join(cache_dir, f"class_frequency_{key}.json"),
        compute=lambda: _count_labels(path),
        load=ClassFrequency.load,
    )


def _count_labels(path: str) -> ClassFrequency:
    from ..annotations.reading import crowds_doubt, read_labels

    labels = read_labels(path)
    names = [category.name for category in labels.categories]
    doubt = crowds_doubt(labels.categories, labels.classes, labels.crowds)
    if doubt:
        logger.warning("%s: %s", path, doubt)
    frequency = _count_pairs(names, *labels[1:])
    _compare_with_stated(path, labels.categories, frequency)
    return frequency


def _count_pairs(
    names: Sequence[str],
    images: np.ndarray,
    classes: np.ndarray,
    crowds: np.ndarray,
    num_images: int,
) -> ClassFrequency:
    from ..annotations.columns import crowds_only

    unseen = crowds_only(classes, crowds, len(names))
    if unseen.any():
        learnt = ~unseen[classes]
        images, classes = images[learnt], classes[learnt]
    return ClassFrequency.from_pairs(names, images, classes, num_images)


def _count_dicts(dicts: Iterable[dict], class_names: Sequence[str] | None) -> ClassFrequency:
    images, classes, crowds, num_images = [], [], [], 0
    for record in dicts:
        for annotation in record.get("annotations", ()):
            images.append(num_images)
            classes.append(annotation["category_id"])
            crowds.append(bool(annotation.get("iscrowd", 0)))
        num_images += 1
    classes = np.asarray(classes, dtype=np.int64)
    if class_names is None:
        class_names = [str(index) for index in range(classes.max(initial=-1) + 1)]
    outside = classes[(classes < 0) | (classes >= len(class_names))]
    if len(outside):
        raise DataError(
            f"dataset dicts have category_id {outside[0]}, but there are {len(class_names)} "
            f"classes; category_id is contiguous and starts at 0 in Detectron2's format"
        )
    images = np.asarray(images, dtype=np.int64)
    return _count_pairs(class_names, images, classes, np.asarray(crowds, dtype=bool), num_images)


def _count_registered(name: str, cache_dir: str | None) -> ClassFrequency:
    packaged = packaged_frequency(name)
    if name not in DatasetCatalog:
        if packaged is not None:
            return packaged
        raise DataError(
            f"{name!r} is neither a file nor a registered data set; register it with "
            f"iif_d2.register_long_tail_instances, or check the name and the path"
        )
    from .class_order import is_in_json_order

    metadata = MetadataCatalog.get(name)
    known = vars(metadata).get("class_frequency")
    if known is not None:
        return known
    json_file = getattr(metadata, "json_file", None)
    if packaged is not None and not (json_file and os.path.isfile(json_file)):
        return packaged
    if json_file and is_in_json_order(name, json_file):
        frequency = _count_json(json_file, cache_dir)
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
    return _count_dicts(dicts, class_names)


def _compare_with_stated(path: str, categories: list[Any], frequency: ClassFrequency) -> None:
    """LVIS states counts in its categories: those of the training set, in val's file too."""
    stated = [
        (category.image_count, category.instance_count)
        for category in categories
        if category.image_count is not None and category.instance_count is not None
    ]
    counted = list(zip(frequency.image_count.tolist(), frequency.instance_count.tolist()))
    if len(stated) == len(counted) and stated != counted:
        differ = [i for i, pair in enumerate(stated) if pair != counted[i]]
        logger.warning(
            "%s: the counts that 'categories' states are not those of its annotations for %d of %d "
            "classes (first: %r, stated %d images and %d instances, found %d and %d). "
            "The annotations are used.",
            path, len(differ), len(counted), frequency.labels[differ[0]],
            *stated[differ[0]], *counted[differ[0]],
        )  # fmt: skip

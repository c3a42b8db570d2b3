"""What of a data set is on disk, and whether it is what was published."""

from __future__ import annotations

import os

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..annotations.schema import ImageFile
from ..annotations.sources import decode_annotations, is_there
from ..errors import DataError
from ..frequency import ClassFrequency, class_name_mismatch
from ..groups import GROUPS
from .builtin import datasets_root
from .checking import tail_lines
from .frequency import count_class_frequency, not_a_source, packaged_frequency
from .instances import image_path

_SOURCES = {
    "lvis": "https://www.lvisdataset.org/dataset",
    "coco": "https://cocodataset.org/#download",
}


class OnDisk:
    """What was found of a registered data set, line by line, and how many things are wrong.

    Attributes:
        lines: the report.
        wrong: how many of them name something missing or wrong.

    Raises:
        DataError: no such data set, it has no json, or its json cannot be read.

    Examples:
        >>> print(OnDisk("lvis_v1_train").lines[0])
        lvis_v1_train, under $DETECTRON2_DATASETS ...
    """

    def __init__(self, name: str) -> None:
        if name not in DatasetCatalog:
            raise not_a_source(name)
        self.name = name
        self.metadata = MetadataCatalog.get(name)
        self.wrong = 0
        root = os.path.abspath(datasets_root())
        self.lines = [f"{name}, under $DETECTRON2_DATASETS ({root})"]
        json_file = self.metadata.get("json_file")
        if not json_file:
            raise DataError(f"{name} has no annotation json that could be checked")
        frequency = packaged_frequency(name)
        if is_there(json_file):
            frequency = self._check_json(json_file)
        else:
            self._say(
                "annotations", f"MISSING: {json_file} belongs there; {_source(name)}", bad=True
            )
            if frequency is not None:
                self._say("published", _counts(frequency))
            self._say("images", f"belong under {self.metadata.image_root}{_folders(name)}")
        trains = not name.endswith(("_val", "_test", "_minival"))
        if trains and frequency is not None:
            self._describe(frequency)

    def _say(self, what: str, text: str, bad: bool = False) -> None:
        self.lines.append(f"  {what:<12} {text}")
        self.wrong += bad

    def _check_json(self, json_file: str) -> ClassFrequency | None:
        content = decode_annotations(json_file, ImageFile)
        self._say("annotations", f"{json_file} is there")
        self._check_images(json_file, content)
        if not content.annotations:
            self._say("objects", "none: a test set, whose detections a server scores")
            return None
        counted = count_class_frequency(json_file)
        self._check_classes(counted)
        self._check_counts(counted, content)
        return counted

    def _check_images(self, json_file: str, content: ImageFile) -> None:
        federated = any(image.neg_category_ids is not None for image in content.images)
        wanted: dict[str, list[str]] = {}
        for index, image in enumerate(content.images):
            path = image_path(json_file, index, image, self.metadata.image_root, federated)
            wanted.setdefault(os.path.dirname(path), []).append(os.path.basename(path))
        for folder, names in sorted(wanted.items()):
            there = set(os.listdir(folder)) if os.path.isdir(folder) else set()
            missing = [name for name in names if name not in there]
            text = f"{folder}: {len(names) - len(missing):,} of {len(names):,} are there"
            if missing:
                text += f"; MISSING: {missing[0]} and others; {_source('coco')}"
            self._say("images", text, bad=bool(missing))

    def _check_classes(self, counted: ClassFrequency) -> None:
        known = self.metadata.get("thing_classes") or counted.class_names
        mismatch = class_name_mismatch(counted.class_names, known)
        text = f"WRONG: {mismatch}, the json's against Detectron2's" if mismatch else (
            f"{len(counted)}, in Detectron2's order"
        )  # fmt: skip
        self._say("classes", text, bad=bool(mismatch))

    def _check_counts(self, counted: ClassFrequency, content: ImageFile) -> None:
        self._say("counts", _counts(counted))
        published = packaged_frequency(self.name)
        if published is not None:
            same = published.same_counts(counted)
            expected = f"WRONG: published are {published.describe()}"
            self._say("published", "the same counts" if same else expected, bad=not same)
            return
        training = packaged_frequency(f"{self.name.rpartition('_')[0]}_train")
        categories = sorted(content.categories, key=lambda category: category.id)
        stated = [category.image_count for category in categories]
        if training is not None and None not in stated:
            same = stated == training.image_count.tolist()
            text = "the json states those of the training set" if same else (
                "WRONG: the json states others than those of the training set"
            )  # fmt: skip
            self._say("published", text, bad=not same)

    def _describe(self, frequency: ClassFrequency) -> None:
        """The groups, and a bar for the classes of each decade of image counts."""
        groups = frequency.groups()
        sizes = "/".join(f"{(groups == group).sum()}" for group in GROUPS)
        self._say("groups", f"{sizes} rare/common/frequent classes")
        self.lines += ["", *(f"  {line}" for line in tail_lines(frequency))]


def _counts(frequency: ClassFrequency) -> str:
    instances = frequency.instance_count
    text = frequency.describe()
    return text if instances is None else f"{text}, {instances.sum():,} instances"


def _source(name: str) -> str:
    return f"get it from {_SOURCES.get(name.partition('_')[0], 'where it was published')}"


def _folders(name: str) -> str:
    """Where LVIS has its images: its val is drawn from both of COCO's folders."""
    if name == "lvis_v1_val":
        return "train2017 and val2017 (LVIS v1 val mixes both)"
    return "train2017" if name.startswith("lvis") and name.endswith("train") else ""

"""`--train`, `--val` and `--images`: data of one's own from the command line, without a module."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, DataError
from ..files import write_atomically
from .arguments import add_images

RECIPE = "LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
RECIPE_WORDS = ("SOLVER.EPOCHS", "12")
FILE = "own_data.json"  # in a run's folder
NAMES = {"train": "own_train", "val": "own_val"}  # in DATASETS.TRAIN and DATASETS.TEST
_LOOKED_AT = 50  # pictures that say whether there are masks


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group(
        "data of your own", "COCO or LVIS json, YOLO, Pascal VOC; else the config names data sets"
    )
    data.add_argument("--train", metavar="FILE", help="training annotations")
    data.add_argument("--val", metavar="FILE", help="validation annotations")
    add_images(data)
    data.add_argument("--val-images", metavar="DIR", help="of --val; by default --images")


@dataclass(frozen=True)
class OwnData:
    """Annotations and folders by "train" and "val"; registered in every process of a run."""

    files: dict[str, tuple[str, str | None]]

    @classmethod
    def of(cls, args: argparse.Namespace) -> OwnData:
        """What the command line names, maybe nothing.

        Raises:
            ConfigError: pictures without annotations.
        """
        folders = {"train": args.images, "val": args.val_images or args.images}
        given = {"train": args.train, "val": args.val}
        files = {
            key: (os.path.abspath(path), folders[key] and os.path.abspath(folders[key]))
            for key, path in given.items()
            if path
        }
        if not files and (args.images or args.val_images):
            raise ConfigError("--images belongs to --train or --val; name the annotations, too")
        return cls(files) if files else cls.beside(args.config_file)

    @classmethod
    def beside(cls, run: str) -> OwnData:
        """What a run was made with, by its folder or a file there; maybe nothing.

        Raises:
            DataError: the file that says it cannot be read.
        """
        from ..annotations.decoding import decode_json

        path = os.path.join(run if os.path.isdir(run) else os.path.dirname(run), FILE)
        if not run or not os.path.isfile(path):
            return cls({})
        files = decode_json(path, dict[str, tuple[str, str | None]], "a run's own data")
        if unknown := files.keys() - NAMES:
            raise DataError(f"{path} has {min(unknown)!r}; it may have train and val alone")
        return cls(files)

    def keep(self, folder: str) -> None:
        """Leave in a run's folder what it is made with, for later commands.

        Raises:
            ConfigError: the folder's run was made with other data.
        """
        if not self.files:
            return
        path = os.path.join(folder, FILE)
        if self.beside(path).files not in ({}, self.files):
            raise ConfigError(
                f"{path}: the run in this folder has other data; give another --output, or remove "
                f"that file if the data have moved"
            )
        write_atomically(path, json.dumps(self.files, indent=1) + "\n")

    def recipe(self, config_file: str) -> tuple[str, list[str]]:
        """The config to train by, and overrides: the package's own where none is named.

        Raises:
            ConfigError: there is nothing to train on.
        """
        if config_file or not self.files:
            return config_file, []
        if "train" not in self.files:
            raise ConfigError("--val without --train: give the training annotations, or a config")
        print(
            f"no --config-file: {RECIPE}, IIF, {RECIPE_WORDS[1]} epochs; it downloads a ResNet-50 "
            f"of ImageNet",
            file=sys.stderr,
        )
        return RECIPE, list(RECIPE_WORDS)

    def register(self) -> None:
        """Under `NAMES`, in this process."""
        from ..data import register_long_tail_instances

        for key, (path, folder) in self.files.items():
            register_long_tail_instances(NAMES[key], path, folder)

    def words(self) -> list[str]:
        """The files and folders as the command line names them."""
        return [word for key, (path, folder) in self.files.items()
                for word in (f"--{key}", path, folder or "")]  # fmt: skip

    def overrides(self) -> list[str]:
        """The KEY VALUE pairs that fit a config to these data: names, classes, kind of masks.

        Raises:
            DataError: the annotations cannot be read.
        """
        from detectron2.data import DatasetCatalog

        from ..data.frequency import count_class_frequency

        if not self.files:
            return []
        self.register()
        words = []
        for key, config_key in (("train", "DATASETS.TRAIN"), ("val", "DATASETS.TEST")):
            if key in self.files:
                words += [config_key, f"('{NAMES[key]}',)"]
            elif "train" in self.files:
                words += [config_key, "()"]
        first = NAMES[next(iter(self.files))]
        classes = len(count_class_frequency(first))
        for head in ("ROI_HEADS", "RETINANET"):
            words += [f"MODEL.{head}.NUM_CLASSES", str(classes)]
        words += ["INPUT.MASK_FORMAT", "bitmask"]
        records = DatasetCatalog.get(first)
        some = [records[index] for index in range(min(_LOOKED_AT, len(records)))]
        if not any("segmentation" in a for record in some for a in record["annotations"]):
            words += ["MODEL.MASK_ON", "False"]
        return words


def register_beside(args: argparse.Namespace) -> None:
    """For a command without these arguments: the data of the runs that it is about."""
    if not hasattr(args, "val_images"):
        for run in (getattr(args, "config_file", None) or "", *getattr(args, "runs", ())):
            OwnData.beside(run).register()


def run_with(own: OwnData, main: Callable[[argparse.Namespace], Any], args: Any) -> Any:
    """What each process runs: `main`, once the data are registered there, too."""
    own.register()
    return main(args)

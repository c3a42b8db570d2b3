"""Where labelled images come from: torchvision's CIFAR, an image folder, a public split list."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from iif_d2.errors import DataError

from .images import LabelledImages

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm")


def read_cifar(name: str, root: str, train: bool, download: bool) -> LabelledImages:
    """CIFAR-10 or CIFAR-100 from torchvision's files, decoded.

    Raises:
        DataError: the files are not there and `download` is off, or the download failed.
    """
    from torchvision import datasets

    try:
        source = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name](
            root, train=train, download=download
        )
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{name} cannot be read from {root} ({error}); set DATA.DOWNLOAD True to fetch it"
        ) from None
    pixels = torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous()
    part = "train" if train else "test"
    names = [f"{part}/{index}" for index in range(len(pixels))]
    labels = np.asarray(source.targets, dtype=np.int64)
    return LabelledImages(tuple(source.classes), labels, names, None, pixels)


def read_folder(root: str, class_names: Sequence[str] | None = None) -> LabelledImages:
    """root/<class>/<image>: classes are the sub-folders in alphabetical order.

    Args:
        class_names: the classes of the training set, for a validation or test folder; it may lack
            some.

    Raises:
        DataError: no such folder, no images in it, or a class that training does not have.
    """
    try:
        found = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    except OSError as error:
        raise DataError(f"image folder {root} cannot be read: {error.strerror}") from None
    classes = tuple(class_names or found)
    unknown = sorted(set(found) - set(classes))
    if unknown:
        raise DataError(f"{root} has class {unknown[0]!r}, which the training set does not have")
    names, labels = [], []
    for label, name in enumerate(classes):
        folder = os.path.join(root, name)
        files = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        images = [file for file in files if file.lower().endswith(IMAGE_SUFFIXES)]
        names += [f"{name}/{file}" for file in images]
        labels += [label] * len(images)
    if not names:
        raise DataError(f"{root} holds no <class>/<image> files of {', '.join(IMAGE_SUFFIXES)}")
    paths = [os.path.join(root, name) for name in names]
    return LabelledImages(classes, np.array(labels, dtype=np.int64), names, paths)


def read_list(file: str, root: str, class_names: Sequence[str] | None = None) -> LabelledImages:
    """A text file of "path label" lines, paths relative to `root`, labels from 0 without a gap.

    Args:
        class_names: the classes of the training list, for a validation or test list.

    Raises:
        DataError: the list cannot be read, a line is malformed, an image is named twice, a label
            has no class, or the first images are not under `root`.
    """
    try:
        with open(file, encoding="utf-8") as lines:
            rows = [line.rsplit(maxsplit=1) for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"split list {file} cannot be read: {error}") from None
    for number, row in enumerate(rows, 1):
        if len(row) != 2 or not row[1].isdecimal():
            raise DataError(f"{file}, line {number}: {' '.join(row)!r} is not 'path label'")
    if not rows:
        raise DataError(f"split list {file} is empty")
    names = [row[0] for row in rows]
    labels = np.array([int(row[1]) for row in rows], dtype=np.int64)
    classes = tuple(class_names or map(str, range(labels.max() + 1)))
    if labels.max() >= len(classes):
        raise DataError(f"{file} has label {labels.max()}, but training has {len(classes)} classes")
    unseen = np.setdiff1d(np.arange(len(classes)), labels)
    if class_names is None and len(unseen):
        raise DataError(f"training list {file} has no image of class {unseen[0]}")
    ((most_named, times),) = Counter(names).most_common(1)
    if times > 1:
        raise DataError(f"{file} names {most_named} {times} times")
    paths = [os.path.join(root, name) for name in names]
    missing = [path for path in paths[:16] if not os.path.isfile(path)]
    if missing:
        raise DataError(f"{file} names {missing[0]}, which does not exist; check DATA.ROOT")
    return LabelledImages(classes, labels, names, paths)

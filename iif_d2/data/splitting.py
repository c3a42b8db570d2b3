"""A data set split into training and validation, or into folds, that keep the rare classes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from ..annotations.columns import Annotations
from ..annotations.formats import find
from ..annotations.reading import read_annotations
from ..annotations.schema import ImageId
from ..annotations.sources import decode_annotations
from ..errors import ConfigError, DataError
from ..files.tables import markdown_table
from ..frequency import ClassFrequency
from ..groups import GROUP_LIMITS, GROUPS, check_group_limits, stated_groups
from .converting import WholeFile, check_output
from .counting import count_pairs
from .duplicates import near_duplicates
from .instances import image_path
from .stratify import Labels, stratify

NEAR = "near-duplicates"


class _ImageOf(msgspec.Struct, gc=False):
    image_id: Any


_decode_image = msgspec.json.Decoder(ImageId).decode
_decode_object = msgspec.json.Decoder(_ImageOf).decode
_UNEVEN = 0.02  # of the images, that a part may be larger or smaller without a word


def split_annotations(
    source: str,
    output: str,
    val: float = 0.2,
    seed: int = 0,
    folds: int | None = None,
    group: str | None = None,
    image_root: str | None = None,
    group_limits: Sequence[int] = GROUP_LIMITS,
) -> str:
    """Write a split as json files, stratified by the classes in each image; says what is where.

    Every class with two images or more is in both halves, where that can be; see `stratify`. A
    class of one image is in training, unless the other half needs that image. Of folds, a class is
    in as many as it has images.

    Args:
        source: annotations in any format.
        output: the folder for train.json and val.json, or fold_0_train.json, fold_0_val.json, ...
        val: the share of the images that is for validation; not for folds.
        seed: of the draws; the same source and seed give the same split.
        folds: instead of one split, so many, each image for validation in one of them.
        group: images that stay together: those with one value of this field of their records, or
            "near-duplicates", those that look nearly the same.
        image_root: for near-duplicates, the folder that the image paths start from.
        group_limits: images of a rare and of a common class at most, where the source does not
            state groups.

    Raises:
        ConfigError: arguments that cannot be, such as more folds than groups.
        DataError: the source cannot be read, or the output not be written.

    Examples:
        >>> said = split_annotations("my/train.json", "split", val=0.2)
    """
    check_group_limits("--group-limits", group_limits)
    if folds is None and not 0 < val < 1:
        raise ConfigError(f"--val is {val}; give the share of the images, such as 0.2")
    if folds is not None and folds < 2:
        raise ConfigError(f"--folds is {folds}; give 2 or more")
    names = ["train", "val"]
    if folds:
        names = [f"fold_{number}_{half}" for number in range(folds) for half in names]
    paths = [os.path.join(output, f"{name}.json") for name in names]
    check_output(source, paths)
    checked = read_annotations(source)
    file = decode_annotations(source, WholeFile)
    units, labels = _labels(checked, _together(checked, source, group, image_root))
    shares = [1 / folds] * folds if folds else [1 - val, val]
    if len(labels.weights) < len(shares):
        raise ConfigError(
            f"{source} has {len(labels.weights)} images (or groups of them) for {len(shares)} "
            f"parts; collect more, or ask for fewer"
        )
    parts = stratify(labels, shares, seed, first=not folds)[units]
    whole = counted(checked, np.ones(len(parts), dtype=bool))
    for number in range(len(paths) // 2):
        held_out = parts == (number if folds else 1)
        counts = counted(checked, ~held_out)
        for path, chosen in zip(paths[2 * number :], (~held_out, held_out)):
            _part(file, checked, chosen, counts).save(path)
    groups = whole.groups(*group_limits)
    grouped = f"{len(parts):,} images in {len(labels.weights):,} groups" if group else (
        f"{len(parts):,} images"
    )  # fmt: skip
    lines = [f"{source}: {grouped}, {len(whole):,} classes, seed {seed}", ""]
    if folds:
        lines += _fold_table(checked, parts, groups, folds)
    else:
        lines += _table(checked, parts, groups)
    lines += ["", *_remarks(checked, labels, parts, shares)]
    written = " and ".join(paths) if not folds else f"{paths[0]} to {paths[-1]}"
    return "\n".join([*lines, f"written: {written}"])


def _together(
    file: Annotations, source: str, group: str | None, image_root: str | None
) -> list[Any]:
    """What images that stay together have in common, an entry an image."""
    if group is None:
        return list(range(len(file)))
    if group == NEAR:
        if image_root is None and find(source).kind == "json":
            raise ConfigError(f"--group {NEAR} looks at the pictures; say where with --images DIR")
        return near_duplicates(picture_paths(file, source, image_root)).tolist()
    values = []
    for place in range(len(file)):
        record = msgspec.json.decode(file.image_texts[place])
        value = record.get(group)
        if value is None or isinstance(value, (list, dict)):
            raise DataError(
                f"{file.path}: the image with id {file.image_ids[place]!r} has {value!r} as "
                f"{group!r}; give each image a number or a text there, or group by another field: "
                f"{', '.join(sorted(record))[:200]}"
            )
        values.append(value)
    return values


def picture_paths(file: Annotations, source: str, image_root: str | None) -> list[str]:
    """Where each image lies on disk, in the file's order.

    Args:
        image_root: by default what the source says, see `formats.pictures_root`.
    """
    root = find(source).root if image_root is None else image_root
    federated = bool(file.negatives.any())
    return [
        image_path(file.path, place, file.item(place).image, root, federated)
        for place in range(len(file))
    ]


def _labels(file: Annotations, together: Sequence[Any]) -> tuple[np.ndarray, Labels]:
    """The unit of each image, int64 (N,), and which classes each unit has.

    Crowds and masks that cannot be drawn teach nothing, and do not count.
    """
    numbers: dict[Any, int] = {}
    units = np.array([numbers.setdefault(value, len(numbers)) for value in together])
    images, classes = seen_pairs(file)
    codes, times = np.unique(units[images] * len(file.categories) + classes, return_counts=True)
    of_unit, label = np.divmod(codes, len(file.categories))
    weights = np.bincount(units)
    return units, Labels(of_unit, label, times, weights, len(file.categories))


def seen_pairs(file: Annotations) -> tuple[np.ndarray, np.ndarray]:
    """int64 (P,) each: images and the classes that can be learnt there, a pair once."""
    images = np.repeat(np.arange(len(file)), np.diff(file.first))
    used = ~(file.crowds | file.unusable)
    codes = np.unique(images[used] * len(file.categories) + file.classes[used])
    images, classes = np.divmod(codes, len(file.categories))
    return images, classes


def counted(file: Annotations, chosen: np.ndarray) -> ClassFrequency:
    """As `count_class_frequency` counts the chosen images."""
    images = np.repeat(np.arange(len(file)), np.diff(file.first))
    inside = chosen[images]
    names = [category.name for category in file.categories]
    counted = count_pairs(
        names, images[inside], file.classes[inside], file.crowds[inside], int(chosen.sum())
    )
    groups = stated_groups([category.frequency for category in file.categories])
    return dataclasses.replace(counted, class_groups=groups)


def _part(
    file: WholeFile, checked: Annotations, chosen: np.ndarray, training: ClassFrequency
) -> WholeFile:
    """The chosen images with their objects.

    Where the classes state counts, they become those of the training half, as LVIS has it.
    """
    kept = {checked.image_ids[place] for place in np.flatnonzero(chosen).tolist()}
    places = {category.id: place for place, category in enumerate(checked.categories)}
    categories = []
    for record in file.categories:
        place = places[record["id"]]
        counts = {"image_count": training.image_count, "instance_count": training.instance_count}
        stated = {key: int(count[place]) for key, count in counts.items() if key in record}
        categories.append(record | stated)
    return WholeFile(
        [text for text in file.images if _decode_image(text).id in kept],
        categories,
        [text for text in file.annotations if _decode_object(text).image_id in kept],
        file.info,
        file.licenses,
    )


def _table(file: Annotations, parts: np.ndarray, groups: np.ndarray) -> list[str]:
    """What each half has by group of classes: classes, images that hold one, and objects."""
    halves = [counted(file, parts == number) for number in (0, 1)]
    rows = [
        [
            "group",
            "classes",
            "in train",
            "in val",
            "images train",
            "images val",
            "objects train",
            "objects val",
        ]
    ]
    images, classes = seen_pairs(file)
    for letter, group in {**GROUPS, "": None}.items():
        member = groups == letter if group else np.ones(len(groups), dtype=bool)
        holding = np.unique(images[member[classes]])
        rows.append(
            [
                group.name if group else "all",
                member.sum(),
                *((half.image_count[member] > 0).sum() for half in halves),
                *((parts[holding] == number).sum() for number in (0, 1)),
                *(half.instance_count[member].sum() for half in halves),
            ]
        )
    return markdown_table(rows)


def _fold_table(file: Annotations, parts: np.ndarray, groups: np.ndarray, folds: int) -> list[str]:
    """What each fold's validation half has."""
    rows = [["fold", "images", "objects", *(f"{group.name} classes" for group in GROUPS.values())]]
    for fold in range(folds):
        half = counted(file, parts == fold)
        there = [((half.image_count > 0) & (groups == letter)).sum() for letter in GROUPS]
        of_all = [f"{n} of {(groups == letter).sum()}" for n, letter in zip(there, GROUPS)]
        rows.append([fold, half.num_images, half.instance_count.sum(), *of_all])
    return markdown_table(rows)


def _remarks(
    file: Annotations, labels: Labels, parts: np.ndarray, shares: Sequence[float]
) -> list[str]:
    """What could not be as it was asked for, a line each."""
    images, classes = seen_pairs(file)
    count = len(shares)
    covered = np.zeros((count, len(file.categories)), dtype=bool)
    covered[parts[images], classes] = True
    names = np.array([str(category.name) for category in file.categories])
    num_images = np.bincount(classes, minlength=len(names))
    num_units = np.bincount(labels.labels, minlength=len(names))
    short = covered.sum(0) < np.minimum(num_images, count)
    lines = []
    together = short & (num_units < np.minimum(num_images, count))
    for which, why in (
        (together, "all their images are in one group, or in too few; nothing can be done"),
        (short & ~together, "their images hold other rare classes that would go missing; collect "
         "more, or try another --seed"),
    ):  # fmt: skip
        if which.any():
            lines.append(f"not in every part: {some(names[which])}: {why}")
    single = num_images == 1
    if single.any():
        where = "" if count > 2 else f", {covered[0, single].sum()} in train"
        lines.append(f"of one image: {single.sum()} classes{where}: {some(names[single])}")
    sizes = np.bincount(parts, minlength=count)
    wanted = np.asarray(shares) * len(parts)
    if (np.abs(sizes - wanted) > max(_UNEVEN * len(parts), 1)).any():
        worst = int(np.abs(sizes - wanted).argmax())
        what = ("train", "val")[worst] if count == 2 else f"fold {worst}"
        lines.append(
            f"{what} has {sizes[worst]:,} images where {wanted[worst]:,.0f} were asked for: rare "
            f"classes and groups take so many"
        )
    return lines


def some(names: np.ndarray) -> str:
    """The first five."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more

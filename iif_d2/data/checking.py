"""What is wrong with a data set before anything is trained on it, and what to do about it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from tqdm import tqdm

from ..annotations.columns import Annotations
from ..annotations.formats import find
from ..annotations.reading import read_annotations
from ..errors import DataError
from ..files.pictures import REMEDY, picture_head
from ..frequency import ClassFrequency, class_name_mismatch
from ..groups import GROUP_LIMITS, check_group_limits, group_sizes, sparse_groups
from .duplicates import near_duplicates, same_bytes
from .splitting import counted, picture_paths, seen_pairs, some

_BEYOND = 1.5  # pixels outside of the image: more than rounding makes


class _Boxes(msgspec.Struct, gc=False):
    bbox: tuple[float | None, float | None, float | None, float | None]


_decode_boxes = msgspec.json.Decoder(list[_Boxes]).decode


class CheckResult(NamedTuple):
    """What `check_annotations` says.

    Attributes:
        text: the whole report.
        wrong: how many findings are faults; others are things to know.
    """

    text: str
    wrong: int


class _Findings:
    """Lines, each with what to do."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.wrong = 0

    def wrong_if(self, found: bool, text: str) -> None:
        if found:
            self.lines.append(f"WRONG  {text}")
            self.wrong += 1

    def note_if(self, found: bool, text: str) -> None:
        if found:
            self.lines.append(f"NOTE   {text}")


class _Side:
    """One annotation source and its pictures."""

    def __init__(self, source: str, image_root: str | None) -> None:
        self.source = source
        self.file = read_annotations(source)
        self.frequency = counted(self.file, np.ones(len(self.file), dtype=bool))
        self.paths = picture_paths(self.file, source, image_root)
        # A json does not say where its pictures are: beside it, where the first one is.
        guessed = image_root is None and find(source).kind == "json"
        self.unread: set[str] = set()
        self.looks = not guessed or os.path.isfile(self.paths[0])


def check_annotations(
    source: str,
    val: str | None = None,
    image_root: str | None = None,
    near: bool = False,
    group_limits: Sequence[int] = GROUP_LIMITS,
) -> CheckResult:
    """The long tail of a data set at a glance, then a line for each thing that is wrong with it.

    Args:
        source: training annotations in any format.
        val: annotations for validation, compared with them: pictures in both, classes in one.
        image_root: the folder that image paths start from; by default as the source says, or
            beside a json.
        near: also look for pictures in both that look nearly the same.
        group_limits: images of a rare and of a common class at most, where the source does not
            state groups.

    Raises:
        DataError: a source cannot be read.

    Examples:
        >>> said = check_annotations("my/train.json").text
    """
    check_group_limits("--group-limits", group_limits)
    sides = [_Side(one, image_root) for one in (source, val) if one is not None]
    frequency, found = sides[0].frequency, _Findings()
    groups = frequency.groups(*group_limits)
    lines = [f"{source}: {frequency.describe()}, {len(sides[0].file.classes):,} objects"]
    lines += [sparse_groups(groups) or group_sizes(groups), "", *tail_lines(frequency), ""]
    for side in sides:
        _check_objects(side, found)
        _check_pictures(side, found)
    never = np.flatnonzero(frequency.image_count == 0)
    names = np.array(frequency.labels)
    found.note_if(
        len(never) > 0,
        f"{source}: {len(never)} classes have no training image ({some(names[never])}); no "
        f"detection of them can be right: collect some, or leave them out of 'categories'",
    )
    if len(sides) == 2:
        _compare(*sides, near, found)
    lines += sorted(found.lines, reverse=True, key=lambda line: line.startswith("WRONG"))
    if found.wrong:
        lines.append(f"things that are wrong: {found.wrong}; mend them, and check again")
    else:
        lines.append(
            f'nothing is wrong; next: iif_d2.register_long_tail_instances("NAME", "{source}"'
            + ("" if image_root is None else f', "{image_root}"')
            + "), and train with DATASETS.TRAIN \"('NAME',)\""
        )
    return CheckResult("\n".join(lines), found.wrong)


def tail_lines(frequency: ClassFrequency) -> list[str]:
    """A table with a bar for the classes of each decade of training images."""
    lines = ["| training images | classes | |", "|---|---|---|"]
    # LVIS's limits, 10 and 100, end a decade.
    decades = Counter(len(str(n - 1)) if n else 0 for n in frequency.image_count.tolist())
    for decade in range(max(decades) + 1):
        span = f"{10 ** (decade - 1) + (decade > 1):,}-{10**decade:,}" if decade else "0"
        bar = "#" * -(-40 * decades[decade] // max(decades.values()))
        lines.append(f"| {span} | {decades[decade]} | {bar} |")
    return lines


def _check_objects(side: _Side, found: _Findings) -> None:
    file = side.file
    for doubt in file.doubts:
        found.wrong_if(True, f"{side.source}: {doubt}")
    if file.repeated_id is not None:
        place, id_ = file.repeated_id
        found.wrong_if(
            True, f"{side.source}: annotations[{place}].id {id_!r} is there twice; number them anew"
        )
    outside, first = 0, ""
    bar = tqdm(range(len(file)), "looking at boxes", delay=2, unit="image")
    for place in bar:
        boxes = _boxes(file, place)
        beyond = _beyond(boxes, *file.sizes[place].tolist())
        if beyond.any() and not outside:
            box = boxes[int(beyond.argmax())].tolist()
            height, width = file.sizes[place].tolist()
            first = f"bbox {box} in image {file.image_ids[place]!r} of {width} x {height} pixels"
        outside += int(beyond.sum())
    found.wrong_if(
        outside > 0,
        f"{side.source}: {outside:,} boxes reach out of their image, first {first}; cut them off "
        f"there, and see that width and height are not exchanged",
    )


def _boxes(file: Annotations, place: int) -> np.ndarray:
    """float64 (n, 4), of one image."""
    rows = _decode_boxes(b"[%b]" % file.object_texts[place])
    boxes = np.array([row.bbox for row in rows], dtype=float).reshape(-1, 4)
    return np.where(np.isnan(boxes).any(1, keepdims=True), 0.0, boxes)


def _beyond(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """bool (n,): boxes partly outside. One that is empty or wholly outside is the reader's."""
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    size = np.array([width, height])
    inside = ((boxes[:, 2:] > 0) & (low < size) & (high > 0)).all(1)
    return inside & ((low < -_BEYOND) | (high > size + _BEYOND)).any(1)


def _check_pictures(side: _Side, found: _Findings) -> None:
    source, file = side.source, side.file
    times = Counter(map(os.path.normpath, side.paths))
    twice = [path for path, count in times.items() if count > 1]
    found.wrong_if(
        bool(twice),
        f"{source}: {len(twice):,} pictures are listed more than once, first "
        f"{twice[0] if twice else ''}; list each once, with all its objects",
    )
    found.note_if(
        not side.looks,
        f"{source}: pictures were not looked at, {side.paths[0]} is not there; say where with "
        f"--images DIR",
    )
    if not side.looks:
        return
    missing, unread, other, exif, turned = [], [], [], [], []
    pairs = zip(side.paths, file.sizes.tolist())
    for path, (height, width) in tqdm(pairs, "looking at pictures", len(file), delay=2):
        if not os.path.exists(path):
            missing.append(path)
            continue
        try:
            real_width, real_height, turn = picture_head(path, f"picture {path}")
        except DataError as error:
            unread.append(str(error))
            side.unread.add(path)
            continue
        if (real_width, real_height) != (width, height):
            said = f"{path}, {real_width} x {real_height} pixels as it is read and not"
            (exif if turn else other).append(f"{said} {width} x {height}")
        elif turn and ("90" not in turn or height == width):
            turned.append(path)
    for items, what, remedy in (
        (missing, "are not there", "; put them there, or give --images the right folder"),
        (unread, "cannot be used", ""),
        (other, "have another size", "; correct width and height in the annotations"),
        (exif, "have another size by their EXIF orientation",
         f"; {REMEDY}; or exchange width and height"),
    ):  # fmt: skip
        first = items[0] if items else ""
        found.wrong_if(
            bool(items), f"{source}: {len(items):,} pictures {what}, first {first}{remedy}"
        )
    found.note_if(
        bool(turned),
        f"{source}: {len(turned):,} pictures are turned when they are read, by their EXIF "
        f"orientation, first {turned[0] if turned else ''}; {REMEDY}",
    )


def _compare(train: _Side, val: _Side, near: bool, found: _Findings) -> None:
    pair = f"{train.source} and {val.source}"
    mismatch = class_name_mismatch(val.frequency.class_names, train.frequency.class_names)
    found.wrong_if(
        bool(mismatch),
        f"{pair} have other classes: {mismatch}, val against train; list the same classes in the "
        f"same order of ids in both",
    )
    if not mismatch:
        _compare_classes(train, val, found)
    both, how = _shared(train, val)
    found.wrong_if(
        len(both) > 0,
        f"{pair} share {len(both):,} pictures {how}, first {_first(both)}; "
        f"take them out of one: iif-d2 data split makes a clean split",
    )
    if not (train.looks and val.looks):
        names = [{os.path.basename(path) for path in side.paths} for side in (train, val)]
        alike = sorted(names[0] & names[1])
        found.note_if(
            bool(alike) and not both,
            f"{pair} have {len(alike):,} file names in common, first {alike[0] if alike else ''}; "
            f"give --images DIR to compare the pictures",
        )
    elif near:
        close = _near(train, val)
        found.wrong_if(
            len(close) > 0,
            f"{pair} have {len(close):,} pictures that look nearly the same, first "
            f"{_first(close)}; split anew with --group near-duplicates",
        )


def _compare_classes(train: _Side, val: _Side, found: _Findings) -> None:
    names = np.array(train.frequency.labels)
    seen, tested = train.frequency.image_count > 0, np.zeros(len(names), dtype=bool)
    tested[seen_pairs(val.file)[1]] = True
    unseen, untested = np.flatnonzero(tested & ~seen), np.flatnonzero(seen & ~tested)
    found.wrong_if(
        len(unseen) > 0,
        f"{val.source}: {len(unseen)} classes are never seen in training ({some(names[unseen])}); "
        f"they cost AP and nothing can be learnt: split anew with iif-d2 data split, or move "
        f"images over",
    )
    found.note_if(
        len(untested) > 0,
        f"{val.source}: {len(untested)} classes have no image ({some(names[untested])}); AP does "
        f"not tell how they do: split anew with iif-d2 data split, or collect some",
    )


def _shared(train: _Side, val: _Side) -> tuple[list[tuple[str, str]], str]:
    """Pictures of both sides, a pair each, and in what they agree."""
    count = len(train.paths)
    paths = [*train.paths, *val.paths]
    if train.looks and val.looks:
        return _across(same_bytes(paths), paths, count), "by their bytes"
    by_path: dict[str, list[int]] = {}
    for place, path in enumerate(paths):
        by_path.setdefault(os.path.normpath(path), []).append(place)
    return _across(list(by_path.values()), paths, count), "by their path"


def _near(train: _Side, val: _Side) -> list[tuple[str, str]]:
    """Pictures of both sides that look the same and are not, a pair each."""
    every = [*train.paths, *val.paths]
    places = [
        place
        for place, path in enumerate(every)
        if os.path.isfile(path) and path not in train.unread | val.unread
    ]
    paths = [every[place] for place in places]
    same = {place for group in same_bytes(paths) for place in group[1:]}
    groups: dict[int, list[int]] = {}
    for place, group in enumerate(near_duplicates(paths).tolist()):
        if place not in same:
            groups.setdefault(group, []).append(place)
    count = sum(place < len(train.paths) for place in places)
    return _across(list(groups.values()), paths, count)


def _across(
    groups: Sequence[Sequence[int]], paths: Sequence[str], count: int
) -> list[tuple[str, str]]:
    """Of each group with places before `count` and behind, each one behind with one before."""
    found = []
    for group in groups:
        before = [place for place in group if place < count]
        found += [(paths[before[0]], paths[p]) for p in group if before and p >= count]
    return found


def _first(pairs: Sequence[tuple[str, str]]) -> str:
    return " and ".join(pairs[0]) if pairs else ""

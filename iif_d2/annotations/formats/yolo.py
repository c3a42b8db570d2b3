"""YOLO: a `data.yaml` with class names and splits, and a text file of shares a picture.

A line is `class x y width height`, a box by its centre, or `class x1 y1 x2 y2 x3 y3 ...`, a polygon
of three points or more; all but the class are shares of the picture's width and height.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml
from tqdm import tqdm

from ...errors import DataError
from ...files.pictures import picture_head
from ...files.untrusted import yaml_node
from .building import JsonText
from .texts import PICTURES, inside, names_in, read_text, walked

SPLITS = ("train", "val", "valid", "test")
_PREFERRED = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_NAMES = re.compile(r"^names\s*:", re.MULTILINE)
_SLACK = 0.01  # of a side: what rounding puts outside
_NO_LABELS = ("classes.txt", "labels.txt", "readme.txt")  # what tools put beside label files


def yaml_in(folder: str) -> str | None:
    """The yaml of the YOLO data set that a folder is; None if it is none.

    Raises:
        DataError: several could be it.
    """
    names = names_in(folder, (".yaml", ".yml"))
    for name in _PREFERRED:
        if name in names:
            return os.path.join(folder, name)
    paths = [os.path.join(folder, name) for name in names]
    found = [path for path in paths if _names_classes(path)]
    if len(found) > 1:
        raise DataError(f"{folder} has several YOLO yamls; name one: {', '.join(found)}")
    return found[0] if found else None


def _names_classes(path: str) -> bool:
    try:
        return bool(_NAMES.search(read_text(path)))
    except DataError:
        return False


@dataclass
class YoloData:
    """What a data.yaml says, each value with where it stands.

    Attributes:
        path: the yaml.
        root: the folder that all paths start from, the yaml's or one in it.
        class_names: in the order of their numbers.
        splits: of each that is there, its pictures' folders and lists of pictures.
        keypoints: numbers that follow the box in each line.
    """

    path: str
    root: str
    class_names: list[str]
    splits: dict[str, list[str]] = field(default_factory=dict)
    keypoints: int = 0


def read_yaml(path: str) -> YoloData:
    """Raises `DataError`: no yaml, without names, or with paths that lead elsewhere."""
    try:
        node = yaml_node(read_text(path))
    except yaml.YAMLError as error:
        text = " ".join(str(error).split())
        raise DataError(f"{path} is not valid yaml: {text}; correct it there") from None
    if not isinstance(node, yaml.MappingNode):
        raise DataError(f"{path} has no KEY: VALUE; a YOLO data.yaml has names: and train:")
    values: dict[str, yaml.Node] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise DataError(f"{_at(path, key)}: a key is no word; write KEY: VALUE")
        if key.value in values:
            raise DataError(f"{_at(path, key)}: {key.value} is there twice; remove one")
        values[key.value] = value
    base = os.path.dirname(path) or "."
    data = YoloData(path, base, _class_names(path, values))
    stated = values.get("path")
    if isinstance(stated, yaml.ScalarNode) and stated.value:
        place = os.path.normpath(os.path.join(base, stated.value))
        if os.path.isdir(place) and os.path.relpath(place, base).split(os.sep)[0] != os.pardir:
            data.root = place
    for split in SPLITS:
        texts = _texts(path, split, values.get(split))
        if texts:
            data.splits[split] = [_place(data, base, split, node) for node in texts]
    if "kpt_shape" in values:
        shape = _texts(path, "kpt_shape", values["kpt_shape"])
        if not all(_is_number(node.value) for node in shape) or len(shape) != 2:
            where = _at(path, values["kpt_shape"])
            raise DataError(f"{where}: kpt_shape is no [K, 2] or [K, 3]; correct it")
        data.keypoints = math.prod(int(node.value) for node in shape)
    return data


def _is_number(text: Any) -> bool:
    """Whether it is one of at most nine digits; Python refuses to read thousands."""
    return isinstance(text, str) and text.isdecimal() and len(text) <= 9


def _at(path: str, node: yaml.Node) -> str:
    return f"{path}, line {node.start_mark.line + 1}"


def _class_names(path: str, values: dict[str, yaml.Node]) -> list[str]:
    node = values.get("names")
    if node is None:
        raise DataError(f"{path}: names is missing; list the classes in the order of their numbers")
    if isinstance(node, yaml.MappingNode):
        named: dict[int, yaml.Node] = {}
        for key, value in node.value:
            number = getattr(key, "value", "")
            if not _is_number(number) or int(number) in named:
                raise DataError(
                    f"{_at(path, key)}: names has {number!r}; number the classes 0, 1, 2, ..., "
                    f"each once"
                )
            named[int(number)] = value
        if sorted(named) != list(range(len(named))):
            missing = next(i for i in range(len(named)) if i not in named)
            raise DataError(f"{_at(path, node)}: names has no class {missing}; number them from 0")
        nodes = [named[number] for number in range(len(named))]
    elif isinstance(node, yaml.SequenceNode):
        nodes = node.value
    else:
        raise DataError(f"{_at(path, node)}: names is {node.value!r}; write a list of classes")
    for value in nodes:
        if not isinstance(value, yaml.ScalarNode) or not value.value.strip():
            raise DataError(f"{_at(path, value)}: names has an entry that is no name; write one")
    count = values.get("nc")
    if isinstance(count, yaml.ScalarNode) and count.value != str(len(nodes)):
        raise DataError(
            f"{_at(path, count)}: nc is {count.value}, and names has {len(nodes)} classes; correct "
            f"the one that is wrong"
        )
    return [value.value for value in nodes]


def _texts(path: str, key: str, node: yaml.Node | None) -> list[yaml.ScalarNode]:
    """The texts that a key has, one or a list."""
    if node is None or isinstance(node, yaml.ScalarNode) and node.value in ("", "null", "~"):
        return []
    nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
    for one in nodes:
        if not isinstance(one, yaml.ScalarNode):
            raise DataError(f"{_at(path, one)}: {key} is no text and no list of texts; write one")
    return nodes


def _place(data: YoloData, base: str, split: str, node: yaml.ScalarNode) -> str:
    """Where a split's pictures are listed or lie. Roboflow writes ../ for the yaml's own folder."""
    value = node.value
    where = f"{_at(data.path, node)}: {split}"
    inner = value
    while inner.startswith("../"):
        inner = inner[3:]
    for root, text in ((data.root, value), (data.root, inner), (base, value), (base, inner)):
        try:
            found = os.path.normpath(os.path.join(root, inside(root, text, where)))
        except DataError:
            if "://" in text:
                raise
            continue
        if os.path.exists(found):
            return found
    inside(data.root, value, where)  # raises, if that is what is wrong
    raise DataError(
        f"{where} is {value}, which is not there under {data.root}; nothing outside of the yaml's "
        f"folder is read: put the yaml into the data set's folder, and write paths from there"
    )


class Pictures(NamedTuple):
    """A split's pictures and label files, all from the data set's root."""

    pictures: list[str]
    labels: list[str]  # of each picture, whether it is there or not
    unused: list[str]  # label files of no picture


def list_pictures(data: YoloData, places: Sequence[str]) -> Pictures:
    """Of folders and of texts with a picture a line.

    Raises:
        DataError: no pictures, or two with one label file.
    """
    found: list[str] = []
    for place in places:
        if os.path.isdir(place):
            found += [os.path.relpath(path, data.root) for path in walked(place, PICTURES)]
        else:
            found += _listed(data, place)
    pictures = sorted(set(found))
    if not pictures:
        raise DataError(f"{', '.join(places)} has no pictures ({', '.join(PICTURES)}); add them")
    labels = [_label_file(picture) for picture in pictures]
    of_label: dict[str, str] = {}
    for picture, label in zip(pictures, labels):
        if of_label.setdefault(label, picture) != picture:
            raise DataError(
                f"{os.path.join(data.root, label)} would label both {of_label[label]} and "
                f"{picture}; remove or rename one"
            )
    unused = []
    if all(map(os.path.isdir, places)):
        for folder in sorted({os.path.dirname(label) for label in labels}):
            names = names_in(os.path.join(data.root, folder), [".txt"])
            texts = [os.path.join(folder, n) for n in names if n.lower() not in _NO_LABELS]
            unused += [text for text in texts if text not in of_label]
    return Pictures(pictures, labels, unused)


def _listed(data: YoloData, path: str) -> list[str]:
    """The pictures that a text lists; ./ is its own folder."""
    found = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        line = line.strip()
        if line:
            if line.startswith("./"):
                line = os.path.join(os.path.relpath(os.path.dirname(path), data.root), line)
            found.append(inside(data.root, line, f"{path}, line {number}"))
    return found


def _label_file(picture: str) -> str:
    """labels/ in place of the last images/, .txt in place of the suffix."""
    before, images, rest = f"/{picture}".rpartition("/images/")
    path = f"{before}/labels/{rest}" if images else f"/{rest}"
    return os.path.splitext(path[1:])[0] + ".txt"


def read_yolo(data: YoloData, listed: Pictures) -> bytes:
    """A split as COCO json.

    Raises:
        DataError: a line or a picture cannot be read; names the file, the line and the remedy.
    """
    made, labelled = JsonText(data.class_names), 0
    pairs = list(zip(listed.pictures, listed.labels))
    for picture, label in tqdm(pairs, desc=f"reading {data.path}", unit="picture", delay=2):
        path = os.path.join(data.root, picture)
        width, height, _ = picture_head(path, f"picture {path}")
        made.add_image(picture, width, height)
        text = os.path.join(data.root, label)
        if os.path.isfile(text):  # without one, nothing is in the picture
            labelled += 1
            for number, line in enumerate(read_text(text).splitlines(), start=1):
                if line.strip():
                    source = f"{text}, line {number}"
                    _add(made, line.split(), data, width, height, source)
    if not labelled:
        first = os.path.join(data.root, listed.labels[0])
        raise DataError(
            f"{data.path}: none of the {len(pairs)} pictures has a label file; that of "
            f"{listed.pictures[0]} belongs at {first}"
        )
    for unused in listed.unused:
        text = os.path.join(data.root, unused)
        if read_text(text).strip():
            raise DataError(
                f"{text} labels a picture that is not there, and its objects would be lost; put "
                f"the picture back, or remove the file"
            )
    return made.content()


def _add(
    made: JsonText, words: list[str], data: YoloData, width: int, height: int, source: str
) -> None:
    values = []
    for word in words:
        try:
            values.append(float(word))
        except ValueError:
            raise DataError(f"{source}: {word[:40]!r} is no number; write one") from None
    label, shares = values[0], values[1:]
    if label not in range(len(data.class_names)):
        raise DataError(
            f"{source}: class {words[0][:40]}, and {data.path} names classes 0 to "
            f"{len(data.class_names) - 1}; correct the line, or add the class there"
        )
    if data.keypoints and len(shares) == 4 + data.keypoints:
        shares = shares[:4]
    if len(shares) != 4 and (len(shares) < 6 or len(shares) % 2):
        raise DataError(
            f"{source}: {len(words)} numbers; write 5 (class x y width height), or the class and "
            f"three or more pairs x y of a polygon"
            + (", without a score" if len(shares) == 5 else "")
        )
    for word, share in zip(words[1:], shares):
        if not -_SLACK <= share <= 1 + _SLACK:  # NaN, too
            raise DataError(
                f"{source}: {word[:40]} is no share of the picture's side, 0 to 1; divide pixels "
                f"by its width or height"
            )
    if len(shares) == 4:
        x, y, w, h = (share * side for share, side in zip(shares, (width, height) * 2))
        made.add_box(int(label), (x - w / 2, y - h / 2, w, h), source)
    else:
        points = [share * side for share, side in zip(shares, (width, height) * len(shares))]
        made.add_polygon(int(label), points, source)

"""Which format a path is in, found out by looking at what is there."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

from ...errors import DataError
from .texts import names_in, read_text
from .voc import split_lists
from .yolo import YoloData, read_yaml, yaml_in

_YAML, _XML = (".yaml", ".yml"), (".xml",)
_LEVELS = 3  # from a split's folder up to data.yaml
_XML_FOLDERS = ("annotations", "labels", "xmls", "xml")


class Found(NamedTuple):
    """An annotation source.

    Attributes:
        kind: how it is read.
        path: the json, the data.yaml, or the folder of xml files.
        root: the folder that its pictures' paths start from, as far as can be told.
        places: of YOLO the split's folders and lists; of VOC its xml files.
        others: the xml files of VOC's other splits, which have the same classes.
        yolo: what the data.yaml says.
    """

    kind: Literal["json", "YOLO", "Pascal VOC"]
    path: str
    root: str
    places: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    yolo: YoloData | None = None


def find(path: str) -> Found:
    """What lies at a path: a json, a data.yaml, an xml, or a folder of one of them.

    `PATH:SPLIT` means one split of several, such as `my/data.yaml:val`. What is not there is taken
    for a json, whose reader says so.

    Raises:
        DataError: nothing that is known, or several things of which one has to be named.
    """
    split = None
    if not os.path.exists(path):
        before, colon, after = path.rpartition(":")
        if colon and os.path.exists(before):
            path, split = before, after
    if os.path.isdir(path):
        return _folder(path, split)
    if path.lower().endswith(_YAML):
        return _yolo(path, split)
    if path.lower().endswith(_XML):
        folder = os.path.dirname(path) or "."
        return Found("Pascal VOC", path, _voc_root(folder), (path,))
    if split is not None:
        raise DataError(f"{path} has no splits; leave out :{split}")
    return Found("json", path, os.path.dirname(path) or ".")


def _folder(folder: str, split: str | None) -> Found:
    yolo, voc = yaml_in(folder), _voc_folder(folder)
    jsons = [os.path.join(place, name) for place in (folder, os.path.join(folder, "annotations"))
             for name in names_in(place, [".json"])]  # fmt: skip
    kinds = [*([yolo] if yolo else []), *([voc] if voc else []), *jsons]
    if len(kinds) > 1:
        raise DataError(f"{folder} holds several annotations; name one: {', '.join(kinds[:6])}")
    if yolo:
        return _yolo(yolo, split)
    if voc:
        return _voc(folder, voc, split)
    if jsons:
        if split is not None:
            raise DataError(f"{jsons[0]} has no splits; leave out :{split}")
        return Found("json", jsons[0], os.path.dirname(jsons[0]))
    above = _yolo_above(folder) if split is None else None
    return above or _split_folder(folder, split)


def _split_folder(folder: str, split: str | None) -> Found:
    """A folder whose folders are splits, of xml files or with a json each."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}; check the path") from None
    inner = [os.path.join(folder, name) for name in names]
    xml = {place: _xml_files(place) for place in inner if names_in(place, _XML)}
    json = [place for place in inner if names_in(place, [".json"])]
    known = [os.path.basename(place) for place in (*xml, *json)]
    if not known:
        raise DataError(
            f"{folder} holds no annotations that are known; give a COCO or LVIS json, a folder of "
            f"Pascal VOC xml files, or a YOLO data.yaml"
        )
    if split not in known:
        raise _which(folder, split, known)
    place = os.path.join(folder, split)
    if place not in xml:
        return _folder(place, None)
    others = tuple(path for files in xml.values() for path in files if files is not xml[place])
    return Found("Pascal VOC", place, folder, xml[place], others)


def _which(path: str, split: str | None, known: list[str]) -> DataError:
    said = f"has no split {split!r}" if split else "has several splits"
    return DataError(f"{path} {said}; name one: {', '.join(f'{path}:{one}' for one in known)}")


def _yolo(path: str, split: str | None) -> Found:
    data = read_yaml(path)
    if not data.splits:
        raise DataError(f"{path} has no train: or val:; write where their pictures are")
    if split is None and len(data.splits) == 1:
        (split,) = data.splits
    if split not in data.splits:
        raise _which(path, split, list(data.splits))
    return Found("YOLO", path, data.root, tuple(data.splits[split]), yolo=data)


def _yolo_above(folder: str) -> Found | None:
    """The split of a data.yaml further up whose pictures or labels this folder holds."""
    here = os.path.abspath(folder)
    above = here
    for _ in range(_LEVELS):
        above = os.path.dirname(above)
        path = yaml_in(above)
        if path is None:
            continue
        data = read_yaml(path)
        for places in data.splits.values():
            for place in map(os.path.abspath, places):
                parent, name = os.path.split(place)
                labels = "/labels".join(place.rsplit("/images", 1))
                if here in (place, labels) or name == "images" and here == parent:
                    return Found("YOLO", path, data.root, tuple(places), yolo=data)
        raise _which(path, None, list(data.splits))
    return None


def _voc_folder(folder: str) -> str | None:
    """Where the xml files of this folder lie: in it, or in its Annotations."""
    for place in (folder, os.path.join(folder, "Annotations"), os.path.join(folder, "annotations")):
        if names_in(place, _XML):
            return place
    return None


def _voc_root(folder: str) -> str:
    """Xml files in a folder of their own have their pictures beside it."""
    here = os.path.abspath(folder)
    return os.path.dirname(here) if os.path.basename(here).lower() in _XML_FOLDERS else folder


def _xml_files(folder: str) -> tuple[str, ...]:
    return tuple(os.path.join(folder, name) for name in names_in(folder, _XML))


def _voc(folder: str, place: str, split: str | None) -> Found:
    files = _xml_files(place)
    if place == folder:
        if split is not None:
            raise DataError(f"{folder} has no splits; leave out :{split}")
        return Found("Pascal VOC", folder, _voc_root(folder), files)
    lists = split_lists(folder)
    if split is None and not lists:
        return Found("Pascal VOC", place, folder, files)
    if split not in lists:
        error = _which(folder, split, list(lists)) if lists else DataError(
            f"{folder} has no ImageSets/Main/{split}.txt; write it, or leave out :{split}"
        )  # fmt: skip
        raise DataError(f"{error}; {place} is all of them") if lists else error
    chosen = []
    for number, line in enumerate(read_text(lists[split]).splitlines(), start=1):
        if line.strip():
            path = os.path.join(place, f"{line.split()[0]}.xml")
            if path not in files:
                raise DataError(f"{lists[split]}, line {number}: {path} is not there; put it there")
            chosen.append(path)
    return Found("Pascal VOC", place, folder, tuple(chosen), files)

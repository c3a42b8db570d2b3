"""YOLO and Pascal VOC as COCO json in memory, which the one reader of json then reads.

`find` says what a path is; nothing is written and nothing is fetched.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from ...errors import DataError
from .finding import Found, find
from .voc import CLASS_FILE, read_voc
from .yolo import Pictures, list_pictures, read_yolo

__all__ = ["Found", "annotation_path", "as_json", "find", "is_there", "pictures_root", "state"]

_MOST_KEPT = 4  # a training and a test set are asked in turn for their classes, labels and boxes
_kept: dict[tuple, bytes] = {}


def annotation_path(path: str | os.PathLike) -> str:
    """The json, where a folder has one; any other path as it is."""
    path = os.fspath(path)
    return find(path).path if os.path.isdir(path) and find(path).kind == "json" else path


def is_there(path: str | os.PathLike) -> bool:
    """Whether something is at this path, which may end in `:SPLIT`."""
    path = os.fspath(path)
    return os.path.exists(path) or ":" in path and os.path.exists(path.rpartition(":")[0])


def pictures_root(path: str | os.PathLike) -> str:
    """The folder that the pictures' paths start from, as far as the annotations tell.

    Of a json it is a guess: its own folder.

    Raises:
        DataError: as `find`.
    """
    return find(os.fspath(path)).root


def as_json(path: str | os.PathLike) -> bytes | None:
    """Annotations in another format as COCO json; None for a json file.

    While the files stay as they are, they are not read again.

    Raises:
        DataError: a file is not as its format says; names it, the line and the remedy.

    Examples:
        >>> as_json("my/train.json") is None  # a json is read as it is
        True
    """
    found = find(os.fspath(path))
    if found.kind == "json":
        return None
    pictures = _pictures(found)
    key = _state(found, pictures)
    if key not in _kept:
        content = _read(found, pictures)
        if _state(found, _pictures(found)) != key:
            raise DataError(f"{found.path} was changed while it was read; start again")
        while len(_kept) >= _MOST_KEPT:
            _kept.pop(next(iter(_kept)))
        _kept[key] = content
    return _kept[key]


def state(path: str | os.PathLike) -> tuple | None:
    """What changes when any file of a source in another format does; None for a json file.

    Last is the time of the newest change in nanoseconds.
    """
    found = find(os.fspath(path))
    return None if found.kind == "json" else _state(found, _pictures(found))


def _pictures(found: Found) -> Pictures | None:
    return None if found.yolo is None else list_pictures(found.yolo, found.places)


def _read(found: Found, pictures: Pictures | None) -> bytes:
    try:
        if found.yolo is not None and pictures is not None:
            return read_yolo(found.yolo, pictures)
        return read_voc(found.path, found.root, found.places, found.others)
    except UnicodeEncodeError as error:
        raise DataError(
            f"{found.path}: {error.object!r} is a name that is no UTF-8; rename the file"
        ) from None


def _state(found: Found, pictures: Pictures | None) -> tuple:
    files: Iterable[str]
    if pictures is None:
        listed = os.path.join(found.root, CLASS_FILE)
        files = [*found.places, *found.others, listed]
    else:
        lists = [place for place in found.places if not os.path.isdir(place)]
        inner = [*pictures.pictures, *pictures.labels, *pictures.unused]
        files = [found.path, *lists, *(os.path.join(found.root, path) for path in inner)]
    digest, newest = hashlib.sha256(), 0
    for path in files:
        try:
            stat = os.stat(path)
        except OSError:
            digest.update(os.fsencode(f"{path}\0"))
            continue
        digest.update(os.fsencode(f"{path}\0{stat.st_size} {stat.st_mtime_ns}\0"))
        newest = max(newest, stat.st_mtime_ns)
    return os.path.realpath(found.path), found.places, digest.hexdigest(), newest

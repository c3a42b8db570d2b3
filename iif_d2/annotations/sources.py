"""Where annotations are, whatever their format: decoded by type, and keys that tell versions."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import msgspec

from ..files import content_key
from .decoding import decode_json, json_errors, paused_gc
from .formats import annotation_path, as_json, is_there, pictures_root, state

__all__ = [
    "KIND",
    "annotation_path",
    "as_json",
    "decode_annotations",
    "is_there",
    "pictures_root",
    "source_digest",
    "source_key",
]

KIND = "an LVIS or COCO annotation file"


def decode_annotations(path: str | os.PathLike, schema: Any) -> Any:
    """Annotations in any format as `schema`, a msgspec type of a COCO json; else unchecked.

    Raises:
        DataError: the source cannot be read, or is of another type than the schema says.
    """
    path = annotation_path(path)
    other = as_json(path)
    if other is None:
        return decode_json(path, schema, KIND)
    with json_errors(path, KIND), paused_gc():
        return msgspec.json.decode(other, type=schema)


def source_key(path: str) -> tuple | None:
    """Tells a source from others, and from itself when it has changed; None where there is none.

    Last is the time of the newest change in nanoseconds.
    """
    other = state(path)
    if other is not None:
        return other
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return os.path.realpath(path), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def source_digest(path: str | os.PathLike) -> str:
    """16 hex digits, as `files.content_key` has for one file.

    Raises:
        DataError: a file cannot be read.
    """
    path = annotation_path(path)
    other = state(path)
    return (
        content_key(path)
        if other is None
        else hashlib.sha256(repr(other).encode()).hexdigest()[:16]
    )

"""LVIS and COCO annotation files, read by type: what is asked for is decoded and checked.

Both formats share their skeleton (images, annotations, categories), so one reader serves both. A
file that cannot be used raises `DataError` with the file, the field and what to do about it.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import DataError

if TYPE_CHECKING:
    from .schema import LabelFile


def decode_json(path: str | os.PathLike, schema: Any, kind: str) -> Any:
    """The content of a json file as `schema`, a msgspec type; `kind` names it in errors.

    The file is mapped, not copied, and fields that the schema does not name are skipped unread.

    Raises:
        DataError: no such file, not json, cut short, or of another type than the schema says.
    """
    import msgspec

    path = os.fspath(path)
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
            raise DataError(f"{path} is no file; check the path")
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise DataError(f"{path} is empty; copy or download it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                # Some editors write a byte order mark, which json does not allow.
                start = 3 if content[:3] == b"\xef\xbb\xbf" else 0
                with memoryview(content) as view, view[start:] as body, paused_gc():
                    return msgspec.json.decode(body, type=schema)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path, or $DETECTRON2_DATASETS") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check the path") from None
    except msgspec.ValidationError as error:
        raise DataError(
            f"{path} is not {kind}: {error}; correct it there, or give the file that was meant"
        ) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(
            f"{path} is not valid json: {error}; it may be cut short, copy or download it again"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}; save it as UTF-8") from None


@contextlib.contextmanager
def paused_gc() -> Iterator[None]:
    """For making millions of objects without cycles: looking for some takes most of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_labels(path: str | os.PathLike) -> LabelFile:
    """Which image holds which category: all that counting needs, checked.

    Raises:
        DataError: as `decode_json`; also for ids that repeat or refer to nothing, and for a
            category without a name.
    """
    from .schema import Id, LabelFile

    labels = decode_json(path, LabelFile[Id], "an LVIS or COCO annotation file")
    check_references(path, labels)
    return labels


def check_references(path: str | os.PathLike, content: Any) -> None:
    """Raise `DataError` unless every id is unique and every annotation refers to what is there.

    `content` has `images`, `annotations` and `categories`, as the schema's files do.
    """
    path = os.fspath(path)
    if not content.categories:
        raise DataError(f"{path}: 'categories' is empty; a detector needs at least one class")
    for index, category in enumerate(content.categories):
        if not category.name.strip():
            raise DataError(
                f"{path}: categories[{index}] (id {category.id}) has no name; give it one"
            )
    categories = _unique_ids(path, "categories", content.categories)
    images = _unique_ids(path, "images", content.images)
    for index, annotation in enumerate(content.annotations):
        if annotation.category_id not in categories:
            _unknown(path, index, "category_id", annotation.category_id, "categories")
        if annotation.image_id not in images:
            _unknown(path, index, "image_id", annotation.image_id, "images")


def _unique_ids(path: str, field: str, records: list) -> set:
    ids = {record.id for record in records}
    if len(ids) < len(records):
        seen = set()
        for index, record in enumerate(records):
            if record.id in seen:
                raise DataError(
                    f"{path}: {field}[{index}].id {record.id!r} is there twice; ids must be unique"
                )
            seen.add(record.id)
    return ids


def _unknown(path: str, index: int, field: str, value: object, where: str) -> None:
    raise DataError(
        f"{path}: annotations[{index}].{field} is {value!r}, which '{where}' does not list; "
        f"add it to '{where}' or remove the annotation"
    )

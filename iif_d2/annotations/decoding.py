"""Json files decoded by type: what the type does not name is skipped unread."""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from ..errors import DataError

# A text, so that nothing inside it is found, or what Python's json writes and json has not.
_NOT_JSON = re.compile(rb'"[^"\\]*(?:\\.?[^"\\]*)*(?:"|\Z)|-?Infinity|NaN', re.DOTALL)


def decode_json(path: str | os.PathLike, schema: Any, kind: str) -> Any:
    """The content of a json file as `schema`, a msgspec type; `kind` names it in errors.

    The file is mapped, not copied; a `msgspec.Raw` in the result keeps it mapped. One with NaN or
    Infinity, as Python writes them, is read as if it had null there.

    Raises:
        DataError: no such file, not json, cut short, or of another type than the schema says.
    """
    path = os.fspath(path)
    with json_errors(path, kind):
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
            raise DataError(f"{path} is no file; check the path")
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise DataError(f"{path} is empty; copy or download it again")
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # Some editors write a byte order mark, which json does not allow.
        start = 3 if content[:3] == b"\xef\xbb\xbf" else 0
        with paused_gc():
            try:
                return msgspec.json.decode(memoryview(content)[start:], type=schema)
            except msgspec.ValidationError:
                raise
            except msgspec.DecodeError:
                if content.find(b"NaN") < 0 and content.find(b"Infinity") < 0:
                    raise
            plain = _NOT_JSON.sub(_as_json, memoryview(content)[start:])
            return msgspec.json.decode(plain, type=schema)


def _as_json(found: re.Match) -> bytes:
    return found[0] if found[0].startswith(b'"') else b"null"


@contextlib.contextmanager
def json_errors(path: str, kind: str) -> Iterator[None]:
    """Inside, what goes wrong with reading the json file becomes a `DataError`."""
    try:
        yield
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

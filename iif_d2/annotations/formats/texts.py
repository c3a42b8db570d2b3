"""Label files of strangers: read as text, of a size that fits, with every path kept inside."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

from ...errors import DataError
from ...files import local_path

_MOST_BYTES = 64 << 20  # of one label file; Objects365's largest has some thousand
PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def read_text(path: str) -> str:
    """The content of a text file.

    Raises:
        DataError: no file, too large, or no UTF-8 text.
    """
    try:
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):  # a pipe would be waited for
            raise DataError(f"{path} is no file; check the path")
        if state.st_size > _MOST_BYTES:
            raise DataError(
                f"{path} has {state.st_size:,} bytes, too many for labels; give the right file"
            )
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check the path") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}; save it as UTF-8") from None


def inside(root: str, path: str, where: str) -> str:
    """A path that a file names, as it leads from `root`; relative to it.

    Raises:
        DataError: an address, or it leads out of `root`; the message starts with `where`.
    """
    local_path(path, where)
    if "\0" in path:
        raise DataError(f"{where} has a zero byte; write a file's name")
    found = os.path.relpath(os.path.join(root, path), root)
    if found.split(os.sep)[0] == os.pardir:
        raise DataError(
            f"{where} is {path}, which leads out of {root}; nothing outside is read for what a "
            f"file names: move it there, and write the path from there"
        )
    return found


def names_in(folder: str, suffixes: Iterable[str]) -> list[str]:
    """The names of a folder's files that end so, in their order; none without the folder."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except OSError:
        return []
    return sorted(name for name in names if name.lower().endswith(tuple(suffixes)))


def walked(folder: str, suffixes: Iterable[str]) -> Iterator[str]:
    """The paths of all files below a folder that end so, folder by folder, in their order."""
    for place, folders, _ in os.walk(folder):
        folders.sort()
        for name in names_in(place, suffixes):
            yield os.path.join(place, name)

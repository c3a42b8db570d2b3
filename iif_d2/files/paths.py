"""Paths that a file names: nobody has chosen them, so nothing is fetched for them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..errors import DataError, IIFError


def local_path(
    path: str | os.PathLike, where: str, error: type[IIFError] = DataError
) -> str | os.PathLike:
    """The path, unless it is an address.

    Detectron2 opens paths by its `PathManager`, which downloads `http://`, `detectron2://` and the
    like and keeps a copy under the address's own path, `..` included. A path that an annotation
    file or a stranger's config names goes through here first.

    Args:
        path: where a file is.
        where: what names it, such as the annotation file and its field; the message starts so.
        error: the class to raise.

    Raises:
        IIFError: it is an address, of any scheme.

    Examples:
        >>> local_path("train2017/1.jpg", "a.json: images[0].file_name")
        'train2017/1.jpg'
    """
    if "://" in os.fspath(path):
        raise error(
            f"{where} is {os.fspath(path)}, an address, and nothing is fetched for what a file "
            f"names; download it, and name the file instead"
        )
    return path


def local_record(record: Mapping[str, Any]) -> None:
    """`local_path` of all that a dataset dict names: its image, and its segmentations.

    Raises:
        DataError: one is an address.
    """
    for key, path in record.items():
        if key.endswith("file_name"):
            local_path(path, f"{key} of image {record.get('image_id')}")

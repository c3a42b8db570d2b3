"""Files of torch's, written whole or not at all; `untrusted.load_tensors` reads them."""

from __future__ import annotations

import os
from typing import Any

from ..errors import DataError
from .disk import replacing


def save_tensors(path: str | os.PathLike, content: Any) -> None:
    """`torch.save` in one step: a reader or a crash sees the old file or the new.

    One process at a time writes a path: what a killed one left is written over.

    Raises:
        DataError: the place cannot be written.
    """
    import torch

    folder, name = os.path.split(os.path.abspath(path))
    try:
        os.makedirs(folder, exist_ok=True)
        with replacing(path, os.path.join(folder, f".{name}.tmp")) as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        raise DataError(f"{os.fspath(path)} cannot be written: {error}") from None

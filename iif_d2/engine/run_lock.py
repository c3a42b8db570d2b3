"""One training run in an output directory at a time."""

from __future__ import annotations

import fcntl
import os
from typing import BinaryIO

from detectron2.utils import comm

from ..errors import ConfigError, DataError

_HELD: dict[str, BinaryIO] = {}  # open until the process ends, which is when the lock goes


def hold_output_dir(folder: str) -> None:
    """Take OUTPUT_DIR for this run until it ends, however it ends. Every rank has to call this.

    Raises:
        ConfigError: another run trains there.
        DataError: the folder cannot be written.
    """
    error = _lock(folder) if comm.is_main_process() else None
    error = comm.all_gather(error)[0]
    if error is not None:
        raise error


def _lock(folder: str) -> ConfigError | DataError | None:
    path = os.path.join(os.path.realpath(folder), "run.lock")
    if path in _HELD:
        return None
    try:
        os.makedirs(folder, exist_ok=True)
        file = open(path, "ab")  # noqa: SIM115
    except OSError as error:
        return DataError(f"OUTPUT_DIR {folder} cannot be written: {error.strerror}")
    try:
        # lockf's lock is this process's alone: data-loader workers do not keep it after a kill.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno not in (11, 13):  # EAGAIN, EACCES: somebody has it
            return DataError(f"{path} cannot be locked: {error.strerror}")
        return ConfigError(
            f"another run trains in OUTPUT_DIR {folder}; wait for it, or choose another"
        )
    _HELD[path] = file
    return None

"""One training run in an output directory at a time."""

from __future__ import annotations

from detectron2.utils import comm

from ..errors import IIFError
from ..files import hold_folder


def hold_output_dir(folder: str) -> None:
    """Take OUTPUT_DIR for this run until it ends, however it ends. Every rank has to call this.

    Raises:
        ConfigError: another run trains there.
        DataError: the folder cannot be written.
    """
    error = None
    if comm.is_main_process():
        try:
            hold_folder(folder)
        except IIFError as refused:
            error = refused
    error = comm.all_gather(error)[0]
    if error is not None:
        raise error

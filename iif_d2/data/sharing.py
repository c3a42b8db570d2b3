"""Dataset dicts that the processes of one machine load once and share."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, BinaryIO

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch.utils.data import Dataset

from ..errors import DataError
from .detection import detection_dicts
from .dicts import DatasetDicts

logger = logging.getLogger(__name__)

# Each thread has its own: two that enter and leave in turns would leave one set behind.
_kept: ContextVar[dict[Any, Any] | None] = ContextVar("kept", default=None)


@contextlib.contextmanager
def dicts_kept(kept: dict[Any, Any] | None = None) -> Iterator[None]:
    """Inside, the same `training_dicts` and `shared_dicts` are loaded once.

    Args:
        kept: where they are kept, for as long as the caller likes; by default inside only.
    """
    before = _kept.get()
    token = _kept.set(kept if kept is not None else {} if before is None else before)
    try:
        yield
    finally:
        _kept.reset(token)


def training_dicts(cfg: CfgNode) -> list[dict] | DatasetDicts | Dataset:
    """What Detectron2's train loader makes of DATASETS.TRAIN. All processes have to call it."""
    keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0
    return shared_dicts(
        tuple(cfg.DATASETS.TRAIN), cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS, keypoints
    )


def shared_dicts(
    names: str | tuple[str, ...], *args: Any, **kwargs: Any
) -> list[dict] | DatasetDicts | Dataset:
    """`detection_dicts`, by `load_once`. All processes have to call it."""
    names = (names,) if isinstance(names, str) else tuple(names)
    key = names, args, tuple(sorted(kwargs.items()))
    kept = _kept.get()
    if kept is not None and key in kept:
        return kept[key]
    dicts = load_once(lambda: detection_dicts(names, *args, **kwargs))
    if kept is not None:
        kept[key] = dicts
    return dicts


def load_once(load: Callable[[], Any]) -> Any:
    """`load()`, or, with several processes, what the first one of this machine loaded.

    That process lays the dicts into a file in memory, which has no name and which all map: it is
    gone when the last one ends, however that comes. A process that cannot see the file (another
    container; not Linux) loads for itself.

    All processes have to call it. One alone, or a `load` that gives no list, is not changed.

    Raises:
        Exception: what `load` raises, in the process where it does.
        DataError: it failed in another process of this machine.
    """
    if comm.get_world_size() == 1:
        return load()
    hosts = comm.all_gather(socket.gethostname())
    leader = hosts.index(socket.gethostname())
    dicts, file, error = None, None, None
    if leader == comm.get_rank():
        try:
            dicts = load()
            if isinstance(dicts, list):
                dicts = DatasetDicts.of(dicts)
            file = laid_out(dicts) if isinstance(dicts, DatasetDicts) else None
        except Exception as failed:  # the others wait for word of it
            error = failed
    with file or contextlib.nullcontext():
        said = comm.all_gather((place_of(file), None if error is None else str(error)))
        if error is not None:
            raise error
        place, elsewhere = said[leader]
        if elsewhere is not None:
            raise DataError(elsewhere)
        shared = None if place is None else mapped(*place)
        comm.synchronize()  # all have it open
    if shared is not None:
        return shared
    if dicts is None:
        logger.info("data are loaded by each process: they cannot be shared on this machine")
    return load() if dicts is None else dicts


def laid_out(dicts: DatasetDicts) -> BinaryIO | None:
    """A file in memory with the dicts, for `mapped`; None where there are no such files."""
    if not hasattr(os, "memfd_create"):
        return None
    file = open(os.memfd_create("iif_d2"), "w+b")
    try:
        torch.save(dicts, file)
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


def place_of(file: BinaryIO | None) -> tuple[str, int] | None:
    """Where this machine's processes find an open file, and its number, by which they know it."""
    if file is None:
        return None
    return f"/proc/{os.getpid()}/fd/{file.fileno()}", os.fstat(file.fileno()).st_ino


def mapped(path: str, number: int) -> DatasetDicts | None:
    """The dicts of a file that `laid_out` made, their tensors mapped; None if it is not there."""
    try:
        if os.stat(path).st_ino != number:
            return None
        # What this run's first process wrote. A page that is read is the same memory for all.
        return torch.load(path, mmap=True, weights_only=False)
    except OSError:
        return None

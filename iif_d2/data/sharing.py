"""Dataset dicts that the processes of one machine load once and share."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import shutil
import socket
import tempfile
from typing import Any, Callable, Iterator, Optional, Union

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import get_detection_dataset_dicts
from detectron2.utils import comm
from torch.utils.data import Dataset

from ..errors import DataError

logger = logging.getLogger(__name__)

_kept: Optional[dict[tuple, Any]] = None


class SharedDicts(Dataset):
    """A list of dicts in memory that processes share; each item is made anew when asked for."""

    def __init__(self, content: np.ndarray, ends: np.ndarray) -> None:
        """uint8 of all pickles, and int64 (N,) where each ends."""
        self._content, self._ends = content, ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = self._ends[index - 1] if index else 0
        return pickle.loads(memoryview(self._content[start : self._ends[index]]))


@contextlib.contextmanager
def dicts_kept() -> Iterator[None]:
    """Inside, the same `training_dicts` are loaded once."""
    global _kept
    before, _kept = _kept, {}
    try:
        yield
    finally:
        _kept = before


def training_dicts(cfg: CfgNode) -> Union[list[dict], SharedDicts, Dataset]:
    """What Detectron2's train loader makes of DATASETS.TRAIN. All processes have to call it."""
    keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0
    key = (tuple(cfg.DATASETS.TRAIN), cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS, keypoints)
    if _kept is not None and key in _kept:
        return _kept[key]
    names, filter_empty, min_keypoints = key
    dicts = load_once(
        lambda: get_detection_dataset_dicts(names, filter_empty, min_keypoints=min_keypoints)
    )
    if _kept is not None:
        _kept[key] = dicts
    return dicts


def load_once(load: Callable[[], Any]) -> Any:
    """`load()`, or, with several processes, what the first one of this machine loaded.

    That process lays the dicts into a temporary file, which all map and which has no name any more
    when this returns: its memory is given back when the last one ends, however that comes. A
    process that cannot see the file, or a machine without room for it, loads for itself.

    All processes have to call it. One alone, or a `load` that gives no list, is not changed.

    Raises:
        Exception: what `load` raises, in the process where it does.
        DataError: it failed in another process of this machine.
    """
    if comm.get_world_size() == 1:
        return load()
    hosts = comm.all_gather(socket.gethostname())
    leader = hosts.index(socket.gethostname())
    leads = leader == comm.get_rank()
    dicts, path, error = None, None, None
    if leads:
        try:
            dicts = load()
            path = _write(dicts) if isinstance(dicts, list) else None
        except Exception as failed:  # the others wait for word of it
            error = failed
    try:
        said = comm.all_gather((path, None if error is None else str(error)))
        if error is not None:
            raise error
        shared_path, elsewhere = said[leader]
        if elsewhere is not None:
            raise DataError(elsewhere)
        shared = None if shared_path is None else _mapped(shared_path)
        comm.synchronize()  # all have it open
    finally:
        if path is not None:
            os.remove(path)
    if shared is not None:
        return shared
    if dicts is None:
        logger.info("data are loaded by each process: they cannot be shared on this machine")
    return load() if dicts is None else dicts


def _write(dicts: list[dict]) -> Optional[str]:
    """A file of pickles, their ends, and how many; None where there is no room."""
    pickles = [pickle.dumps(record, protocol=pickle.HIGHEST_PROTOCOL) for record in dicts]
    ends = np.cumsum([len(text) for text in pickles], dtype=np.int64)
    size = int(ends[-1]) if len(ends) else 0
    for folder in ("/dev/shm", tempfile.gettempdir()):
        path = None
        try:
            if shutil.disk_usage(folder).free < 2 * size + (64 << 20):
                continue
            descriptor, path = tempfile.mkstemp(prefix="iif_d2-", dir=folder)
            with open(descriptor, "wb") as file:
                # Numbers first: they lie at multiples of their size.
                file.write(np.int64(len(ends)).tobytes() + ends.tobytes())
                file.writelines(pickles)
            return path
        except OSError as error:
            logger.info("%s cannot hold the data to be shared: %s", folder, error)
            if path is not None:
                os.remove(path)
    return None


def _mapped(path: str) -> Optional[SharedDicts]:
    try:
        content = np.memmap(path, dtype=np.uint8, mode="r")
    except OSError:
        return None
    count = int(content[:8].view(np.int64)[0])
    start = 8 + 8 * count
    return SharedDicts(content[start:], content[8:start].view(np.int64))

"""Dataset dicts that the processes of one machine load once and share."""

from __future__ import annotations

import contextlib
import io
import logging
import mmap
import os
import pickle
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch.utils.data import Dataset

from ..errors import DataError
from .detection import detection_dicts
from .dicts import DatasetDicts

logger = logging.getLogger(__name__)

_ALIGNMENT = 64  # bytes, as numpy and torch like it
_kept: dict[Any, Any] | None = None


@contextlib.contextmanager
def dicts_kept(kept: dict[Any, Any] | None = None) -> Iterator[None]:
    """Inside, the same `training_dicts` and `shared_dicts` are loaded once.

    Args:
        kept: where they are kept, for as long as the caller likes; by default inside only.
    """
    global _kept
    before = _kept
    _kept = kept if kept is not None else {} if before is None else before
    try:
        yield
    finally:
        _kept = before


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
    if _kept is not None and key in _kept:
        return _kept[key]
    dicts = load_once(lambda: detection_dicts(names, *args, **kwargs))
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
            if isinstance(dicts, list):
                dicts = DatasetDicts.of(dicts)
            path = write(dicts) if isinstance(dicts, DatasetDicts) else None
        except Exception as failed:  # the others wait for word of it
            error = failed
    try:
        said = comm.all_gather((path, None if error is None else str(error)))
        if error is not None:
            raise error
        shared_path, elsewhere = said[leader]
        if elsewhere is not None:
            raise DataError(elsewhere)
        shared = None if shared_path is None else mapped(shared_path)
        comm.synchronize()  # all have it open
    finally:
        if path is not None:
            os.remove(path)
    if shared is not None:
        return shared
    if dicts is None:
        logger.info("data are loaded by each process: they cannot be shared on this machine")
    return load() if dicts is None else dicts


def write(shared: Any) -> str | None:
    """A new file with an object, its arrays to be mapped; None where there is no room."""
    arrays: list[np.ndarray] = []
    text = io.BytesIO()
    _Pickler(text, arrays).dump(shared)
    # First what tells where the rest is.
    places, end = [], _aligned(text.tell() + 16)
    for array in arrays:
        places.append((end, array.dtype.str, array.shape))
        end = _aligned(end + array.nbytes)
    head = pickle.dumps(places)
    for folder in ("/dev/shm", tempfile.gettempdir()):
        path = None
        try:
            if shutil.disk_usage(folder).free < 2 * end + (64 << 20):
                continue
            descriptor, path = tempfile.mkstemp(prefix="iif_d2-", dir=folder)
            with open(descriptor, "wb") as file:
                file.write(np.array([text.tell(), end], dtype=np.int64).tobytes())
                file.write(text.getbuffer())
                for (start, *_), array in zip(places, arrays):
                    file.seek(start)
                    file.write(array.data)
                file.seek(end)
                file.write(head)
            return path
        except OSError as error:
            logger.info("%s cannot hold the data to be shared: %s", folder, error)
            if path is not None:
                os.remove(path)
    return None


def mapped(path: str) -> Any:
    """The object of a file that `write` made; None if it cannot be opened."""
    try:
        with open(path, "rb") as file:
            # A page that is written to becomes this process's own; nobody writes.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError:
        return None
    size, end = np.frombuffer(content, dtype=np.int64, count=2).tolist()
    arrays = [
        np.frombuffer(content, dtype, int(np.prod(shape)), start).reshape(shape)
        for start, dtype, shape in pickle.loads(content[end:])
    ]
    return _Unpickler(io.BytesIO(content[16 : 16 + size]), arrays).load()


class _Pickler(pickle.Pickler):
    """Leaves arrays and tensors out, into a list."""

    def __init__(self, file: io.BytesIO, arrays: list[np.ndarray]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._arrays = arrays

    def persistent_id(self, value: Any) -> tuple[str, int] | None:
        if not isinstance(value, (np.ndarray, torch.Tensor)):
            return None
        array = np.ascontiguousarray(value if isinstance(value, np.ndarray) else value.numpy())
        if array.dtype.hasobject:
            return None
        self._arrays.append(array)
        kind = "array" if isinstance(value, np.ndarray) else "tensor"
        return kind, len(self._arrays) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, arrays: list[np.ndarray]) -> None:
        super().__init__(file)
        self._arrays = arrays

    def persistent_load(self, key: tuple[str, int]) -> np.ndarray | torch.Tensor:
        kind, place = key
        array = self._arrays[place]
        return array if kind == "array" else torch.from_numpy(array)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT

"""Faults of storage: some break a process from within, the others break what it stands on."""

from __future__ import annotations

import functools
import itertools
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import drives

Data = tuple[Path, Path]  # json and image root


def limit_files(folder: Path) -> None:
    """From now on no file may grow beyond 100 kB, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))


def at_checkpoint(number: int, do: Callable, *args: Any) -> None:
    """Have `do(*args)` done in this process before it saves its `number`-th checkpoint."""
    from iif_d2.checkpoint import LongTailCheckpointer

    before_call(LongTailCheckpointer, "save", number, lambda *_: do(*args))


def at_step(number: int, do: Callable, *args: Any) -> None:
    from iif_d2.engine import LongTailTrainer

    before_call(LongTailTrainer, "run_step", number, lambda *_: do(*args))


def at_image(number: int, do: Callable, *args: Any) -> None:
    """Before so many images are evaluated."""
    from iif_d2.evaluation import LongTailEvaluator

    before_call(LongTailEvaluator, "process", number, lambda *_: do(*args))


def before_call(owner: Any, name: str, number: int, do: Callable) -> None:
    """Have this done in this process, with the call's arguments, before the `number`-th call."""
    original, calls = getattr(owner, name), itertools.count(1)

    @functools.wraps(original)
    def called(*args, **kwargs):
        if next(calls) == number:
            do(*args)
        return original(*args, **kwargs)

    setattr(owner, name, called)


def unreadable(training: bool, first: int, times: int, folder: Path) -> None:
    """From the `first`-th image of training or evaluation on, so many attempts to open one fail."""
    from PIL import Image

    from iif_d2.data import LongTailDatasetMapper

    call, open_image = LongTailDatasetMapper.__call__, Image.open
    images, failed = [], []

    def counted(self, dataset_dict):
        if self.is_train == training:
            images.append(1)
        return call(self, dataset_dict)

    def failing(*args, **kwargs):
        if len(images) >= first and len(failed) < times:
            failed.append(1)
            raise OSError(5, "Input/output error")
        return open_image(*args, **kwargs)

    LongTailDatasetMapper.__call__, Image.open = counted, failing


@contextmanager
def full(folder: Path, data: Data) -> Iterator[None]:
    drives.fill(folder)
    try:
        yield
    finally:
        drives.empty(folder)


@contextmanager
def read_only(folder: Path, data: Data) -> Iterator[None]:
    with drives.read_only(folder):
        yield


@contextmanager
def vanished(folder: Path, data: Data) -> Iterator[None]:
    image = _image(data, 3)
    away = image.rename(image.with_suffix(".away"))
    try:
        yield
    finally:
        away.rename(image)


@contextmanager
def pipe(folder: Path, data: Data) -> Iterator[None]:
    """In the place of an image: whoever opens it waits for one who writes."""
    with vanished(folder, data):
        os.mkfifo(_image(data, 3))
        try:
            yield
        finally:
            _image(data, 3).unlink()


@contextmanager
def slow(seconds: float, folder: Path, data: Data) -> Iterator[None]:
    with drives.slow(_image(data, 5), seconds):
        yield


def _image(data: Data, image_id: int) -> Path:
    return data[1] / "train2017" / f"{image_id:012d}.png"

"""A disk that is full and images that vanish: a message, what was done stays, resume works."""

from __future__ import annotations

import functools
import resource
import tempfile
from pathlib import Path

from . import runs
from .kill_resume import OPTIONS

OPTS = (*OPTIONS, "MODEL.LONG_TAIL.METHOD", "FedLoss")


def full_after(checkpoints: int) -> None:
    """From this many checkpoints on no file may grow beyond 100 kB, as on a full disk."""
    from iif_d2.checkpoint import LongTailCheckpointer

    original, calls = LongTailCheckpointer.save, []

    def save(self, *args, **kwargs):
        calls.append(1)
        if len(calls) > checkpoints:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        return original(self, *args, **kwargs)

    LongTailCheckpointer.save = save


def unreadable(training: bool, first: int, times: int) -> None:
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


CASES = {
    "disk full at the third checkpoint": (functools.partial(full_after, 2), 2, "cannot be written"),
    "image gone in training": (functools.partial(unreadable, True, 25, 99), 2, "cannot be read"),
    "image gone in evaluation": (functools.partial(unreadable, False, 9, 99), 2, "cannot be read"),
    "image fails twice, then reads": (functools.partial(unreadable, True, 25, 2), 0, "again in"),
}


def run() -> list[str]:
    from ..conftest import make_dataset

    with tempfile.TemporaryDirectory() as root:
        data = make_dataset(Path(root) / "data")
        whole = Path(root) / "whole"
        assert runs.train(whole, data, *OPTS) == 0, runs.output(whole)[-2000:]
        for number, case in enumerate(CASES.values()):
            check(whole, Path(root) / str(number), data, *case)
    return [f"{name}: said so, resumed, 0 differences from the run without it" for name in CASES]


def check(whole: Path, folder: Path, data: tuple[Path, Path], sabotage, code: int, message: str) -> None:
    """Break a run, read what it says, resume it where it stopped, compare."""
    got = runs.train(folder, data, *OPTS, sabotage=sabotage)
    said = runs.output(folder)
    assert got == code and message in said, f"exit code {got}: {said[-2000:]}"
    if code:
        assert runs.train(folder, data, *OPTS, resume=True) == 0, runs.output(folder)[-2000:]
    runs.assert_same(whole, folder)

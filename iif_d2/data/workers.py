"""Data-loader workers: signals, which go to all of a job at once, and memory."""

from __future__ import annotations

import functools
import gc
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing import util

from torch.utils.data import DataLoader

_finalized_by: int | None = None


def prepare_workers(loader: DataLoader) -> DataLoader:
    """The loader, whose workers now ignore SIGTERM and Ctrl-C: their process still needs them.

    They are killed when it ends. Their garbage collector leaves alone what they were forked with,
    so that it stays shared memory.
    """
    global _finalized_by
    if loader.num_workers:
        loader.worker_init_fn = functools.partial(_prepare, loader.worker_init_fn)
        if _finalized_by != os.getpid():
            util.Finalize(None, _kill_workers, exitpriority=1)
            _finalized_by = os.getpid()
    return loader


def _prepare(own: Callable[[int], None] | None, worker: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    if own is not None:
        own(worker)


def _kill_workers() -> None:
    """At exit, before multiprocessing sends its SIGTERM and waits for workers that ignore it.

    DataLoader's handler would take these deaths for a failure of the run.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()

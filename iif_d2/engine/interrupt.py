"""Ctrl-C: one line about what was saved, and exit code 130."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import util
from types import FrameType

from detectron2.utils import comm

EXIT_INTERRUPTED = 128 + signal.SIGINT  # 130, what a shell says of a process that Ctrl-C ended


class Interruption:
    """Whether SIGINT has come. The first one raises `KeyboardInterrupt`; later ones are ignored.

    A launcher passes it on to processes that the terminal has told already.
    """

    def __init__(self) -> None:
        self.came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.came = True
        raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """In this context SIGINT interrupts once."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = signal.signal(signal.SIGINT, interruption)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before)


def end_interrupted(advice: str) -> None:
    """Say it once, and end this process; of several one may wait for the others for ever."""
    alone = comm.get_world_size() == 1
    if comm.is_main_process():
        print(f"stopped by Ctrl-C: {advice}", file=sys.stderr)
    if alone:
        sys.exit(EXIT_INTERRUPTED)
    leave_others(EXIT_INTERRUPTED)


def leave_others(code: int) -> None:
    """End this process of several while others wait for it.

    Its process group is not destroyed before: that would raise an error in those that wait, and
    their traceback would come before the launcher, which ends them, has seen this process's code.
    """
    util._exit_function()  # ends workers, and unlinks what they shared
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

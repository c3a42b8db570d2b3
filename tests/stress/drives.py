"""Drives to break: one of a fixed size, one that turns read-only, a file that opens slowly.

The first two are mounts, which want root on Linux and are always taken away again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import children

BALLAST = "ballast"


def refused(folder: Path) -> str:
    """Why nothing can be mounted here; empty where it can."""
    try:
        with drive(folder, "1m"), read_only(folder):
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return " ".join(said.split())


@contextmanager
def drive(folder: Path, size: str = "1g") -> Iterator[None]:
    """A file system of this size in memory at `folder`, gone afterwards with all that is mounted
    in it."""
    folder.mkdir(exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={size}", "iif_d2-fault", str(folder))
    try:
        yield
    finally:
        _run("umount", "-R", "-l", str(folder))
        folder.rmdir()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    make_read_only(folder)
    try:
        yield
    finally:
        make_writable(folder)


def make_read_only(folder: Path) -> None:
    """From now on; what is open for writing stays so, and all else there is refused."""
    _run("mount", "--bind", str(folder), str(folder))
    _run("mount", "-o", "remount,bind,ro", str(folder))


def make_writable(folder: Path) -> None:
    _run("umount", "-l", str(folder))


def fill(folder: Path) -> None:
    """Leave no room on its drive; `empty` takes the ballast away."""
    with open(folder / BALLAST, "wb", buffering=0) as file:
        try:
            while file.write(bytes(1 << 20)):
                pass
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
    assert shutil.disk_usage(folder).free <= 1 << 12


def empty(folder: Path) -> None:
    (folder / BALLAST).unlink()


@contextmanager
def slow(path: Path, seconds: float) -> Iterator[None]:
    """Whoever opens the file first waits so long in `open`, by a lease of the kernel's."""
    ready = children.context.Event()
    process = children.start(_lease, path, seconds, ready)
    try:
        assert ready.wait(30), f"no lease of {path}"
        yield
        assert children.end(process, 5) == 0, f"nobody has opened {path}"
    finally:
        process.kill()


def _lease(path: Path, seconds: float, ready) -> None:
    with open(path, "rb+") as file:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        ready.set()
        signal.sigwait({signal.SIGIO})  # somebody is in open
        time.sleep(seconds)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    os._exit(0)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)

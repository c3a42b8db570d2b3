"""Files written whole or not at all, and small caches that many processes may ask for at once."""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import hashlib
import io
import logging
import os
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, TypeVar

from ..errors import ConfigError, DataError

T = TypeVar("T")
logger = logging.getLogger(__name__)
_LARGE = 100 << 20  # bytes: reading less takes no noticeable time
_CHUNK = 8 << 20
_SAMPLE = 1 << 20  # bytes of head and of tail
_HELD: dict[str, BinaryIO] = {}  # kept open: a lock goes when its file is closed


@contextlib.contextmanager
def replacing(path: str | os.PathLike, temporary: str) -> Iterator[BinaryIO]:
    """A new file, `temporary` on the same drive, that takes `path`'s place when the block ends.

    If the block raises, the new file is removed and `path` stays as it was.
    """
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        raise


def write_atomically(path: str | os.PathLike, content: bytes | str) -> None:
    """Replace `path` by `content` in one step: a reader or a crash sees the old file or the new.

    Raises:
        DataError: the place cannot be written.
    """
    folder, name = os.path.split(os.path.abspath(path))
    try:
        os.makedirs(folder, exist_ok=True)
        # many processes may write it at once
        temporary = os.path.join(folder, f".{name}.{secrets.token_hex(4)}")
        with replacing(path, temporary) as file:
            file.write(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise DataError(f"{os.fspath(path)} cannot be written: {error.strerror}") from None


def check_writable(folder: str | os.PathLike) -> None:
    """Make the folder, and see that it takes a file.

    Raises:
        DataError: it does not.
    """
    folder = os.fspath(folder)
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written: {error.strerror}; choose another OUTPUT_DIR, or make room"
        ) from None


@contextlib.contextmanager
def restored_on_error(path: str | os.PathLike) -> Iterator[None]:
    """If the block raises, put back the file that was there before it.

    A copy lies beside the file meanwhile: a drive that has filled up would not take it later.

    Raises:
        DataError: there is no room for the copy.
    """
    kept = None
    if os.path.isfile(path):
        kept = f"{os.fspath(path)}.before-{os.getpid()}"
        with open(path, "rb") as file:
            write_atomically(kept, file.read())
    try:
        yield
    except BaseException:
        if kept is not None:
            os.replace(kept, path)
        raise
    if kept is not None:
        os.remove(kept)


def hold_folder(folder: str) -> None:
    """Lock OUTPUT_DIR for this process until it ends, so that one run at a time trains there.

    Raises:
        ConfigError: another process has it.
        DataError: it cannot be written.
    """
    path = os.path.join(os.path.realpath(folder), "run.lock")
    if path in _HELD:
        return
    try:
        os.makedirs(folder, exist_ok=True)
        file = open(path, "ab")  # noqa: SIM115
    except OSError as error:
        raise DataError(f"OUTPUT_DIR {folder} cannot be written: {error.strerror}") from None
    try:
        # lockf, since data-loader workers would keep flock's lock after a kill.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise DataError(f"{path} cannot be locked: {error.strerror}") from None
        raise ConfigError(
            f"another run trains in OUTPUT_DIR {folder}; wait for it, or choose another"
        ) from None
    _HELD[path] = file


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """The rows as a csv file; the first one names the columns."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def content_key(path: str | os.PathLike) -> str:
    """16 hex digits of a file's size, mtime, head and tail: they change when the file does.

    Raises:
        DataError: the file cannot be read.
    """
    path = os.fspath(path)
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            digest = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode())
            digest.update(file.read(_SAMPLE))
            file.seek(max(0, status.st_size - _SAMPLE))
            digest.update(file.read(_SAMPLE))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    return digest.hexdigest()[:16]


def read_ahead(path: str) -> None:
    """Read a large file once under a progress bar, so that its reader finds it in memory.

    A file that is not there is left to its reader to report.
    """
    from tqdm import tqdm

    if not os.path.isfile(path) or os.path.getsize(path) < _LARGE:
        return
    with (
        open(path, "rb", buffering=0) as file,
        tqdm(total=os.path.getsize(path), desc=f"reading {path}", unit="B", unit_scale=True) as bar,
    ):
        while chunk := file.read(_CHUNK):
            bar.update(len(chunk))


def cached(path: str, compute: Callable[[], T], load: Callable[[str], T]) -> T:
    """`load(path)`; if that file is missing or damaged, `compute()`, saved there by `.save(path)`.

    Of many processes that ask at once, one computes and the others wait. A cache that cannot be
    written costs time, never the result.
    """
    from filelock import FileLock

    found = _load_if_sound(path, load)
    if found is not None:
        return found
    lock = FileLock(f"{path}.lock")
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        held = lock.acquire()
    except OSError as error:
        logger.warning("%s cannot be locked (%s); nothing is kept", path, error.strerror)
        return compute()
    with held:
        found = _load_if_sound(path, load)
        if found is None:
            found = compute()
            try:
                found.save(path)
            except DataError as error:
                logger.warning("%s; nothing is kept", error)
    return found


def _load_if_sound(path: str, load: Callable[[str], T]) -> T | None:
    if not os.path.isfile(path):
        return None
    try:
        return load(path)
    except DataError as error:
        logger.warning("%s; it is made again", error)
        return None

"""Drives that are really full or read-only, where the machine lets a test mount them; and growth."""

import os
import time

import pytest

from iif_d2.errors import DataError
from iif_d2.files import cached, write_atomically

from . import children, drives
from .usage import Usage, growth, of_tree


@pytest.fixture
def drive(tmp_path):
    if reason := drives.refused(tmp_path / "try"):
        pytest.skip(f"nothing can be mounted here: {reason}")
    with drives.drive(tmp_path / "drive", "8m"):
        yield tmp_path / "drive"
    assert not os.path.ismount(tmp_path / "drive")


class Content:
    def save(self, path):
        write_atomically(path, bytes(100_000))


def test_a_full_drive_keeps_what_it_has(drive):
    write_atomically(drive / "a", "old")
    drives.fill(drive)
    with pytest.raises(DataError, match="a cannot be written: No space left on device"):
        write_atomically(drive / "a", bytes(100_000))
    assert cached(str(drive / "cache"), Content, lambda path: pytest.fail("half a cache"))
    drives.empty(drive)
    assert (drive / "a").read_text() == "old" and not [n for n in os.listdir(drive) if "a." in n]
    write_atomically(drive / "a", bytes(100_000))


def test_a_read_only_folder_is_named(drive):
    write_atomically(drive / "a", "old")
    with drives.read_only(drive):
        with pytest.raises(DataError, match="a cannot be written: Read-only file system"):
            write_atomically(drive / "a", "new")
        assert cached(str(drive / "cache"), Content, lambda path: None)
    write_atomically(drive / "a", "new")


def test_a_slow_file_is_slow_once(tmp_path):
    (tmp_path / "a").write_text("content")
    with drives.slow(tmp_path / "a", 0.5):
        start = time.monotonic()
        assert (tmp_path / "a").read_text() == "content"
        assert time.monotonic() - start > 0.4  # the lease's, however fast the machine


def test_growth_is_seen():
    flat = [Usage(100 + (i % 7) * 0.2, 10 + i % 3) for i in range(400)]
    assert not growth(flat)
    assert "median of memory" in growth([Usage(u.memory + i / 50, 10) for i, u in enumerate(flat)])
    assert "median of open files" in growth([Usage(100, 10 + i // 100) for i in range(400)])
    leap = [Usage(100, 10)] * 390 + [Usage(100, 16)] * 10
    assert "peak of open files" in growth(leap)
    evaluating = [Usage(100, 173 if i % 50 == 0 else 88) for i in range(399)]
    assert not growth([*evaluating, Usage(100, 174)])
    assert "peak of open files" in growth([*evaluating, Usage(100, 179)])
    peak = flat[:380] + [Usage(200, 10)] + flat[:19]
    assert "peak of memory" in growth(peak)


def test_a_child_counts(tmp_path):
    before = of_tree(os.getpid())
    event = children.context.Event()
    process = children.start(event.wait, 60)
    try:
        more = of_tree(os.getpid())
        assert more.memory > before.memory + 1 and more.files > before.files
    finally:
        event.set()
        children.end(process, 60)

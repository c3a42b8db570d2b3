"""Drives that are really full or read-only, where the machine lets a test mount them; and growth."""

import os
import time

import pytest

from iif_d2.errors import DataError
from iif_d2.files import cached, write_atomically

from . import children, drives, usage
from .usage import Usage, growth, of_tree, summary


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
    opening = [Usage(100, 173 if i % 50 == 0 else 88) for i in range(399)]
    assert not growth([*opening, Usage(100, 174)])
    assert "peak of open files" in growth([*opening, Usage(100, 179)])
    peak = flat[:380] + [Usage(200, 10)] + flat[:19]
    assert "peak of memory" in growth(peak)


def test_training_and_evaluation_are_judged_apart():
    """However long the evaluations of a quarter take; by what each takes itself."""
    training, evaluating = Usage(1000, 88, 3), Usage(1500, 171, 5)
    short = [*[training] * 160, *[evaluating] * 40]
    long = [*[training] * 80, *[evaluating] * 120]
    assert not growth([*short, *short, *long, *long])
    text = summary([*short, *short, *long, *long])
    assert "at 3 processes: second quarter 1000.0 MB" in text and "at 5 processes" in text
    assert "120 looks" in text
    grown = [evaluating._replace(memory=1600) if u == evaluating else u for u in long]
    assert "memory in MB at 5 processes grows" in growth([*short, *short, *long, *grown])
    leaking = [training._replace(files=89) if u == training else u for u in long]
    assert "files at 3 processes grows" in growth([*short, *short, *long, *leaking])


def test_what_has_no_like_is_not_called_flat():
    """Processes that stay, and a state that one of the quarters hardly has."""
    looks = [Usage(100, 10, 3)] * 300
    assert "0 of 100 looks" in growth([*looks, *[Usage(100, 10, 4)] * 100])
    once = [*[Usage(100, 10, 3)] * 80, *[Usage(200, 20, 5)] * 20]
    assert "only 80 of 100 looks" in growth([*looks, *once])
    assert "only 80 of 100 looks" in growth([*looks[:100], *once, *looks[:200]])
    assert "only 0 of 5 looks" in growth([Usage(100, 10)] * 20)


def test_a_look_waits_until_as_many_processes_stay(monkeypatch):
    """Files that a starting worker or a batch has open for a moment are no peak; files kept are."""

    def settled(*looks):
        left = iter(looks)
        monkeypatch.setattr(usage, "of_tree", lambda pid: next(left))
        look = usage.of_settled_tree(1)
        assert next(left, None) is None
        return look

    monkeypatch.setattr(usage, "MOMENT", 0)
    training, evaluating = Usage(9, 88, 3), Usage(9, 171, 5)
    starting, sending = training._replace(files=99), training._replace(files=95)
    assert settled(training, starting, *[evaluating] * 3) == evaluating
    assert settled(training, sending, training) == training
    assert settled(training, sending, sending) == sending
    assert settled(*(Usage(9, 9, number) for number in range(50))).processes == 48


def test_a_child_counts(tmp_path):
    before = of_tree(os.getpid())
    event = children.context.Event()
    process = children.start(event.wait, 60)
    try:
        more = of_tree(os.getpid())
        assert more.memory > before.memory + 1 and more.files > before.files
        assert more.processes > before.processes
    finally:
        event.set()
        children.end(process, 60)

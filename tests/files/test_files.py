"""Files are written whole or not at all, and one of many processes does the work."""

import multiprocessing
import os
import time

import pytest

from iif_d2.errors import DataError
from iif_d2.files import cached, content_key, restored_on_error, write_atomically


def test_writing_replaces_in_one_step(tmp_path):
    path = tmp_path / "new" / "file.txt"
    write_atomically(path, "one")
    write_atomically(path, b"two")
    assert path.read_text() == "two"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    write_atomically(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="file.txt cannot be written: No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_a_file_comes_back_after_an_error_though_nothing_can_be_written(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    path.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    with pytest.raises(KeyError), restored_on_error(path):
        path.write_text("")  # what is left of it on a full drive
        monkeypatch.setattr(os, "fsync", full)
        raise KeyError
    assert path.read_text() == "old"
    with pytest.raises(DataError, match="No space left"), restored_on_error(path):
        path.write_text("new")  # not reached: there is no room to keep the old one
    monkeypatch.undo()
    with restored_on_error(path):
        path.write_text("new")
    assert path.read_text() == "new" and [p.name for p in tmp_path.iterdir()] == ["config.yaml"]


def test_the_key_follows_the_content(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 3_000_000)
    key = content_key(path)
    assert content_key(path) == key
    path.write_bytes(b"x" * 2_999_999 + b"y")
    assert content_key(path) != key
    with pytest.raises(DataError, match="cannot be read"):
        content_key(tmp_path / "gone")


class Kept:
    def __init__(self, text):
        self.text = text

    def save(self, path):
        write_atomically(path, self.text)

    @classmethod
    def load(cls, path):
        with open(path) as file:
            return cls(file.read())


def _ask(folder, start):
    def compute():
        with open(os.path.join(folder, "calls"), "a") as file:
            file.write("x")
        time.sleep(0.3)
        return Kept("result")

    start.wait()
    assert cached(os.path.join(folder, "cache", "kept"), compute, Kept.load).text == "result"


def test_of_eight_processes_at_once_one_computes(tmp_path):
    context = multiprocessing.get_context("fork")
    start = context.Event()
    processes = [context.Process(target=_ask, args=(str(tmp_path), start)) for _ in range(8)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 8
    assert (tmp_path / "calls").read_text() == "x"

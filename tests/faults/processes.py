"""Many processes that start at once on a cold cache count once."""

from __future__ import annotations

import tempfile
from pathlib import Path

from . import children

RANKS = 8


def run() -> list[str]:
    from ..conftest import make_dataset

    with tempfile.TemporaryDirectory() as root:
        path, _ = make_dataset(Path(root) / "data", num_images=64)
        counted = count_at_once(str(path), root)
    assert counted == 1, f"{counted} processes counted"
    return [f"{RANKS} processes at once on a cold cache: {counted} counted, {RANKS - 1} waited"]


def count_at_once(json_file: str, cache: str) -> int:
    """How many of `RANKS` processes counted the classes themselves."""
    barrier, counted = children.context.Barrier(RANKS), children.context.Value("i", 0)
    arguments = (json_file, cache, barrier, counted)
    processes = [children.start(_count, *arguments) for _ in range(RANKS)]
    assert [children.end(process, 120) for process in processes] == [0] * RANKS
    return counted.value


def _count(json_file: str, cache: str, barrier, counted) -> None:
    from iif_d2.frequency import ClassFrequency, count_class_frequency

    save = ClassFrequency.save

    def counting_save(self, path) -> None:
        with counted.get_lock():
            counted.value += 1
        save(self, path)

    ClassFrequency.save = counting_save
    barrier.wait(60)
    assert len(count_class_frequency(json_file, cache_dir=cache)) == 4

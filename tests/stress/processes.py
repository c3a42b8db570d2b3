"""Many processes: on a cold cache they count once, and where one dies the others do not wait."""

from __future__ import annotations

import functools
import os
import signal
import tempfile
import time
from pathlib import Path

from ..conftest import free_port, make_dataset
from . import Outcome, children, runs
from .kill_resume import OPTIONS, kill_at

RANKS = 8
VICTIMS = (0, 1)
ENDED_WITHIN = 60  # seconds from the death of a rank to the end of the other


def run() -> Outcome:
    with tempfile.TemporaryDirectory() as root:
        path, _ = make_dataset(Path(root) / "data", num_images=64)
        counted = count_at_once(str(path), root)
    assert counted == 1, f"{counted} processes counted"
    lines = [
        f"{RANKS} processes at once on a cold cache: {counted} counted, {RANKS - 1} waited",
        *rank_dies(),
    ]
    return Outcome(RANKS + len(VICTIMS), lines)


def rank_dies() -> list[str]:
    """Two ranks over gloo; either is killed, the other ends, and both resume to the same end."""
    lines = []
    with tempfile.TemporaryDirectory() as root:
        data = make_dataset(Path(root) / "data")
        whole = Path(root) / "whole"
        _train_ranks(whole, data)
        for victim in VICTIMS:
            folder = Path(root) / f"broken-{victim}"
            codes, waited = _train_ranks(folder, data, victim)
            assert codes[victim] == -signal.SIGKILL, f"{codes}: {runs.output(folder)[-2000:]}"
            assert codes[1 - victim] != 0, f"rank {1 - victim} ended as if all was well"
            assert waited < ENDED_WITHIN, f"rank {1 - victim} ended {waited:.0f} s after the other"
            last = (folder / "last_checkpoint").read_text()
            _train_ranks(folder, data, resume=True)
            runs.assert_same(whole, folder)
            lines.append(
                f"rank {victim} of 2 killed in step 13: the other ended {waited:.1f} s later, "
                f"{last} was left; resumed, 0 differences from the run that was not stopped"
            )
    return lines


def _train_ranks(
    folder: Path, data: tuple[Path, Path], victim: int = -1, resume: bool = False
) -> tuple[list[int], float]:
    """The exit codes, both 0 without a victim, and the seconds from the first end to the second."""
    port = free_port()
    ranks = [
        runs.start(folder, data, *OPTIONS, "MODEL.LONG_TAIL.METHOD", "EQLv2", resume=resume,
                   sabotage=functools.partial(_as_rank, rank, port, rank == victim))
        for rank in range(2)
    ]  # fmt: skip
    try:
        until = time.monotonic() + children.LIMIT
        while all(rank.exitcode is None for rank in ranks):
            assert time.monotonic() < until, f"no end: {runs.output(folder)[-2000:]}"
            time.sleep(0.05)
        first = time.monotonic()
        codes = [children.end(rank, said=lambda: runs.output(folder)) for rank in ranks]
        assert victim >= 0 or codes == [0, 0], f"{codes}: {runs.output(folder)[-2000:]}"
        return codes, time.monotonic() - first
    finally:
        for rank in ranks:
            rank.kill()


def _as_rank(rank: int, port: int, dies: bool) -> None:
    """What torchrun says to a process; one that dies is killed in its 13th step."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2",
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    if dies:
        kill_at("step", 13)


def count_at_once(json_file: str, cache: str) -> int:
    """How many of `RANKS` processes counted the classes themselves."""
    barrier, counted = children.context.Barrier(RANKS), children.context.Value("i", 0)
    arguments = (json_file, cache, barrier, counted)
    processes = [children.start(_count, *arguments) for _ in range(RANKS)]
    assert [children.end(process, 120) for process in processes] == [0] * RANKS
    return counted.value


def _count(json_file: str, cache: str, barrier, counted) -> None:
    from iif_d2 import ClassFrequency, count_class_frequency

    save = ClassFrequency.save

    def counting_save(self, path) -> None:
        with counted.get_lock():
            counted.value += 1
        save(self, path)

    ClassFrequency.save = counting_save
    barrier.wait(60)
    assert len(count_class_frequency(json_file, cache_dir=cache)) == 4

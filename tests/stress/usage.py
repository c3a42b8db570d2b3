"""What a process and all it has started take of memory and file handles, and whether that grows."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

# Flat: the last quarter of a series beside its second; the first is for caches to fill. A run that
# evaluates starts workers for it, so looks are compared with those at as many processes. Memory may
# be so much more in the median and at the peak, open files at the peak, which is one look at a
# moment when a file more may just be open. The median of open files may not be one more: whatever
# leaks by step, checkpoint or evaluation raises it.
TOLERANCE = 0.03
LOOKS = 10  # of each quarter that a number of processes is judged by
COMPARED = 0.9  # of each quarter's looks, at the least; processes that stay would be left out
# Seconds between the looks that make one of a tree. Files of a worker that starts or ends were seen
# open for 0.02 without it, those of a batch on its way for 0.006.
MOMENT = 0.1


class Usage(NamedTuple):
    """Memory in MB, open file descriptors and processes.

    Memory is what no file backs, and what processes share counts once: each has its part of it.
    Pages of libraries would be halved by whatever else runs with them.
    """

    memory: float
    files: int
    processes: int = 1

    def __str__(self) -> str:
        return f"{self.memory:.0f} MB, {self.files} open files, {self.processes} processes"


def of_tree(pid: int) -> Usage:
    """Of a process and its descendants; one that ends meanwhile counts as nothing."""
    memory, files, processes, waiting = 0.0, 0, 0, [pid]
    while waiting:
        process = waiting.pop()
        try:
            mine, opened, started = _memory(process), len(os.listdir(f"/proc/{process}/fd")), []
            for thread in os.listdir(f"/proc/{process}/task"):
                with open(f"/proc/{process}/task/{thread}/children") as file:
                    started += map(int, file.read().split())
        except OSError:
            continue
        memory, files, processes = memory + mine, files + opened, processes + 1
        waiting += started
    return Usage(memory, files, processes)


def of_settled_tree(pid: int) -> Usage:
    """As `of_tree`, where there are as many processes a moment before and after; of files the median.

    The files of a worker that starts or ends would count for the processes without it. A tree that
    does not settle in fifty moments is taken as it is.
    """
    looks = [of_tree(pid)]
    while len(looks) < 50:
        time.sleep(MOMENT)
        looks.append(of_tree(pid))
        if len(looks) > 2 and len({look.processes for look in looks[-3:]}) == 1:
            break
    return looks[-2]._replace(files=median(look.files for look in looks[-3:]))


def _memory(process: int) -> float:
    with open(f"/proc/{process}/smaps_rollup") as file:
        fields = dict(line.split(":", 1) for line in file.read().splitlines()[1:])
    return sum(int(fields[name].split()[0]) for name in ("Pss_Anon", "Pss_Shmem")) * 1024 / 1e6


def growth(series: Sequence[Usage]) -> str:
    """What grows from the second quarter to the last, or why that cannot be told; empty if flat."""
    early, late = _quarters(series)
    states = list(_states(early, late))
    for quarter, place in ((early, 1), (late, 2)):
        compared = sum(len(state[place]) for state in states)
        if compared < COMPARED * len(quarter):
            return f"only {compared} of {len(quarter)} looks have their like in the other quarter"
    for processes, *parts in states:
        for name, of, tolerance in (("median", median, 0.0), ("peak", max, TOLERANCE)):
            before, after = (of(usage.memory for usage in part) for part in parts)
            if after > before * (1 + TOLERANCE):
                return (
                    f"the {name} of memory at {processes} processes grows from {before:.1f} to "
                    f"{after:.1f} MB"
                )
            before, after = (of(usage.files for usage in part) for part in parts)
            if after > before * (1 + tolerance):
                return (
                    f"the {name} of open files at {processes} processes grows from {before:g} to "
                    f"{after:g}"
                )
    return ""


def summary(series: Sequence[Usage]) -> str:
    """Both quarters in figures."""
    lines = []
    for processes, *parts in _states(*_quarters(series)):
        figures = []
        for name, part in zip(("second", "last"), parts):
            memory, files = [usage.memory for usage in part], [usage.files for usage in part]
            figures.append(
                f"{name} quarter {median(memory):.1f} MB (peak {max(memory):.1f}), "
                f"{median(files):g} open files (peak {max(files)}), {len(part)} looks"
            )
        lines.append(f"at {processes} processes: {'; '.join(figures)}")
    return "; ".join(lines)


def _quarters(series: Sequence[Usage]) -> tuple[Sequence[Usage], Sequence[Usage]]:
    size = len(series) // 4
    assert size, f"{len(series)} looks are too few to tell"
    return series[size : 2 * size], series[-size:]


def _states(
    early: Sequence[Usage], late: Sequence[Usage]
) -> Iterator[tuple[int, list[Usage], list[Usage]]]:
    """Numbers of processes with the looks at them, where there are enough in both."""
    for processes in sorted({usage.processes for usage in early}):
        parts = [[u for u in part if u.processes == processes] for part in (early, late)]
        if min(map(len, parts)) >= LOOKS:
            yield processes, *parts

"""What a process and all it has started take of memory and file handles, and whether that grows.

Flat means: the last quarter of a series is like its second; the first is for caches to fill. An
evaluation starts workers, so looks are compared with those at as many processes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

# What may be more: a share of memory, in the median and at the peak, and of open files at the peak,
# which is one look, when a file more may just be open. The median of open files may not be one
# more: whatever leaks by step, checkpoint or evaluation raises it.
TOLERANCE = 0.03
LOOKS = 10  # of each quarter that a number of processes is judged by
COMPARED = 0.9  # of each quarter's looks, at the least; processes that stay would be left out
# Seconds between the looks that make one of a tree. Files of a worker that starts or ends were seen
# open for 0.02 without it, those of a batch on its way for 0.006.
MOMENT = 0.1


class Usage(NamedTuple):
    """Memory in MB, open file descriptors and processes.

    Memory is what no file backs: pages of libraries would be halved by whatever else runs with
    them. What processes share counts once.
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
    """`of_tree` between two looks at as many processes; of open files the median of the three.

    Else the files of a worker that starts or ends would count for the processes without it. A tree
    that does not settle in fifty moments is taken as it is.
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
    states = list(_states(series))
    for quarter in (1, 2):
        looks, compared = len(series) // 4, sum(len(state[quarter]) for state in states)
        if compared < COMPARED * looks:
            return f"only {compared} of {looks} looks have their like in the other quarter"
    for processes, *parts in states:
        for figure, of, field, what, tolerance in (
            ("median", median, "memory", "memory in MB", TOLERANCE),
            ("peak", max, "memory", "memory in MB", TOLERANCE),
            ("median", median, "files", "open files", 0.0),
            ("peak", max, "files", "open files", TOLERANCE),
        ):
            before, after = (of(getattr(usage, field) for usage in part) for part in parts)
            if after > before * (1 + tolerance):
                return (
                    f"the {figure} of {what} at {processes} processes grows from {before:.5g} to "
                    f"{after:.5g}"
                )
    return ""


def summary(series: Sequence[Usage]) -> str:
    """Both quarters in figures."""
    lines = []
    for processes, *parts in _states(series):
        figures = []
        for name, part in zip(("second", "last"), parts):
            memory, files = [usage.memory for usage in part], [usage.files for usage in part]
            figures.append(
                f"{name} quarter {median(memory):.1f} MB (peak {max(memory):.1f}), "
                f"{median(files):g} open files (peak {max(files)}), {len(part)} looks"
            )
        lines.append(f"at {processes} processes: {'; '.join(figures)}")
    return "; ".join(lines)


def _states(series: Sequence[Usage]) -> Iterator[tuple[int, list[Usage], list[Usage]]]:
    """Numbers of processes with the looks at them in both quarters, where there are enough."""
    size = len(series) // 4
    assert size, f"{len(series)} looks are too few to tell"
    quarters = series[size : 2 * size], series[-size:]
    for processes in sorted({usage.processes for usage in quarters[0]}):
        parts = [[u for u in part if u.processes == processes] for part in quarters]
        if min(map(len, parts)) >= LOOKS:
            yield processes, *parts

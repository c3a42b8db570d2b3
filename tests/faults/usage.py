"""What a process and all it has started take of memory and file handles, and whether that grows."""

from __future__ import annotations

import os
from statistics import median
from typing import NamedTuple, Sequence

# Flat: the last quarter of a series beside its second; the first is for caches to fill. Memory may
# be so much more in the median and at the peak, open files at the peak, which is one look at a
# moment when a file more may just be open. The median of open files may not be one more: whatever
# leaks by step, checkpoint or evaluation raises it.
TOLERANCE = 0.03


class Usage(NamedTuple):
    """Resident memory in MB (what processes share counts for each) and open file descriptors."""

    memory: float
    files: int

    def __str__(self) -> str:
        return f"{self.memory:.0f} MB, {self.files} open files"


def of_tree(pid: int) -> Usage:
    """Of a process and its descendants; one that ends meanwhile counts as nothing."""
    memory, files, waiting = 0.0, 0, [pid]
    while waiting:
        process = waiting.pop()
        try:
            with open(f"/proc/{process}/statm") as file:
                memory += int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
            files += len(os.listdir(f"/proc/{process}/fd"))
            for thread in os.listdir(f"/proc/{process}/task"):
                with open(f"/proc/{process}/task/{thread}/children") as file:
                    waiting += map(int, file.read().split())
        except OSError:
            continue
    return Usage(memory, files)


def growth(series: Sequence[Usage]) -> str:
    """What grows from the second quarter to the last; empty if nothing does."""
    early, late = _quarters(series)
    for name, of, tolerance in (("median", median, 0.0), ("peak", max, TOLERANCE)):
        before, after = (of(usage.memory for usage in part) for part in (early, late))
        if after > before * (1 + TOLERANCE):
            return f"the {name} of memory grows from {before:.1f} to {after:.1f} MB"
        before, after = (of(usage.files for usage in part) for part in (early, late))
        if after > before * (1 + tolerance):
            return f"the {name} of open files grows from {before:g} to {after:g}"
    return ""


def summary(series: Sequence[Usage]) -> str:
    """Both quarters in figures."""
    parts = []
    for name, part in zip(("second", "last"), _quarters(series)):
        memory = [usage.memory for usage in part]
        files = [usage.files for usage in part]
        parts.append(f"{name} quarter {median(memory):.1f} MB (peak {max(memory):.1f}), "
                     f"{median(files):g} open files (peak {max(files)})")  # fmt: skip
    return "; ".join(parts)


def _quarters(series: Sequence[Usage]) -> tuple[Sequence[Usage], Sequence[Usage]]:
    size = len(series) // 4
    assert size, f"{len(series)} looks are too few to tell"
    return series[size : 2 * size], series[-size:]

"""How the cases measure: both sides in turn in one process, or each in a process of its own."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
MIB = 1 << 20


@dataclass
class Row:
    """One line of the table."""

    case: str  # the step that is measured
    size: str  # on what
    ours: list[float]  # seconds of each repetition
    reference: str = ""  # whose code stands beside ours, if any
    theirs: list[float] = field(default_factory=list)
    ours_memory: float | None = None  # MiB at the peak above what the process had before
    theirs_memory: float | None = None
    identical: bool | None = None  # the results; None: there is nothing to compare
    series: str = ""  # of a growth, whose size is x
    x: float = 0
    note: str = ""  # what the reader of bench.json should know


def alternate(
    sides: dict[str, Callable[[], Any]],
    repeat: int,
    device: str = "cpu",
    warm_up: int = 1,
    calls_of_ours: int = 1,
) -> dict[str, list[float]]:
    """Seconds of `repeat` calls of each side, in turn, so that both meet the same disturbances.

    Args:
        calls_of_ours: in each turn; where the other side takes seconds, a few calls of
            milliseconds say nothing.
    """
    synchronize = torch.cuda.synchronize if device != "cpu" else lambda: None
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(warm_up + repeat):
        for name, call in sides.items():
            for _ in range(calls_of_ours if name == "ours" else 1):
                synchronize()
                start = time.perf_counter()
                call()
                synchronize()
                if turn >= warm_up:
                    seconds[name].append(time.perf_counter() - start)
    return seconds


def isolated(case: str, function: str, *arguments: object) -> dict:
    """`cases.<case>.<function>(*arguments)` in a fresh process.

    The function returns a callable to time, and one that makes a string of its result; what it does
    before that is neither timed nor counted as memory.

    Returns:
        `seconds`, `memory` (MiB above the start) and `digest`.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_one, (case, function, arguments))


def compared(
    case: str,
    *arguments: object,
    repeat: int = 1,
    reference: bool = True,
    reference_repeat: int | None = None,
) -> dict:
    """The fields of a Row from `ours` and `theirs` of a case, each in processes of its own.

    Theirs runs `reference_repeat` times, as often as ours by default, in turn with ours.
    """
    repeats = {"ours": repeat, "theirs": (reference_repeat or repeat) if reference else 0}
    runs: dict[str, list[dict]] = {side: [] for side in repeats}
    for turn in range(max(repeats.values())):
        for side, times in repeats.items():
            if turn < times:
                runs[side].append(isolated(case, side, *arguments))
    fields: dict[str, Any] = {}
    for side, results in runs.items():
        fields[side] = [result["seconds"] for result in results]
        fields[f"{side}_memory"] = max((result["memory"] for result in results), default=None)
    if reference:
        fields["identical"] = len({r["digest"] for results in runs.values() for r in results}) == 1
    return fields


def _one(case: str, function: str, arguments: tuple) -> dict:
    sys.stdout = sys.stderr
    call, digest = getattr(importlib.import_module(f"cases.{case}"), function)(*arguments)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    before, start = _status("VmRSS"), time.perf_counter()
    result = call()
    seconds = time.perf_counter() - start
    memory = (_status("VmHWM") - before) / MIB
    return {"seconds": seconds, "memory": memory, "digest": digest(result)}


def _status(key: str) -> int:
    """Bytes, of Linux."""
    with open("/proc/self/status") as file:
        return int(dict(line.split(":", 1) for line in file)[key].split()[0]) << 10

"""How the cases measure: both sides in turn in one process, or each in a process of its own."""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
MIB = 1 << 20


@dataclass
class Row:
    """One line of the table.

    Attributes:
        case: the step that is measured.
        size: on what.
        reference: whose code stands beside ours; empty where there is none.
        ours, theirs: seconds of each repetition.
        ours_memory, theirs_memory: MiB at the peak above what the process had before.
        identical: whether both results are the same; None where there is nothing to compare.
        series, x: names a growth and the size in numbers, where growth is fitted.
        note: what the reader should know.
    """

    case: str
    size: str
    ours: list[float]
    reference: str = ""
    theirs: list[float] = field(default_factory=list)
    ours_memory: float | None = None
    theirs_memory: float | None = None
    identical: bool | None = None
    series: str = ""
    x: float = 0
    note: str = ""

    def as_dict(self) -> dict:
        return asdict(self)


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
    synchronize = _synchronizer(device)
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
    command = [sys.executable, "-W", "ignore", __file__, case, function, json.dumps(arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


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
    sides = {"ours": repeat}
    if reference:
        sides["theirs"] = reference_repeat or repeat
    runs = {side: [] for side in sides}
    for turn in range(max(sides.values())):
        for side, times in sides.items():
            if turn < times:
                runs[side].append(isolated(case, side, *arguments))
    fields = {}
    for side, results in runs.items():
        fields[side] = [result["seconds"] for result in results]
        fields[f"{side}_memory"] = max(result["memory"] for result in results)
    if reference:
        fields["identical"] = len({r["digest"] for results in runs.values() for r in results}) == 1
    return fields


def _one(case: str, function: str, arguments: list) -> None:
    prepared = getattr(importlib.import_module(f"cases.{case}"), function)
    call, digest = prepared(*arguments)
    before = _resident()
    start = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - start
    memory = (_peak() - before) / MIB
    print(json.dumps({"seconds": seconds, "memory": memory, "digest": digest(result)}))


def _resident() -> int:
    return _status("VmRSS") or _peak()


def _peak() -> int:
    """Bytes. Not ru_maxrss on Linux: it starts at the size of the process that forked this one."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status(key: str) -> int:
    if not os.path.exists("/proc/self/status"):
        return 0
    with open("/proc/self/status") as file:
        return int(dict(line.split(":", 1) for line in file)[key].split()[0]) * 1024


def _synchronizer(device: str) -> Callable[[], None]:
    if device == "cpu":
        return lambda: None
    import torch

    return torch.cuda.synchronize


if __name__ == "__main__":
    sys.path.insert(0, HERE)
    _one(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))

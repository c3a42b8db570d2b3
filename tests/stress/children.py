"""Processes of their own for what may die, hang or eat memory; no wait for one is without a limit.

A plain fork copies locks that other threads hold, and hangs. Here a server that has imported
everything and has no threads forks, so a child takes milliseconds all the same. A child knows
nothing of its parent but its arguments: functions of modules, paths, numbers.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

LIMIT = 600  # seconds

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    ["torch", "detectron2", "iif_d2.engine", "iif_d2.checkpoint", "tests.stress.runs",
     "iif_d2.evaluation.matching", "iif_d2.evaluation.ground_truth", "tests.stress.bad_input",
     "timm"]
)  # fmt: skip


def start(function: Callable, *args: Any) -> BaseProcess:
    """`function(*args)` in a process of its own, which dies with this one at the latest."""
    process = context.Process(target=function, args=args)
    process.start()
    return process


def end(process: BaseProcess, seconds: float = LIMIT, said: Callable[[], str] = str) -> int:
    """Its exit code; minus the signal's number if one killed it.

    Raises AssertionError, and kills it, where it has not ended in time; `said()` goes with that.
    """
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join(30)
        raise AssertionError(f"no end within {seconds} s, killed; {said()[-2000:]}")
    return process.exitcode

"""Small training runs in processes of their own, to be broken; and what they leave, to compare."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from ..conftest import TINY
from . import children

CONFIG = "configs/Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_iif.yaml"
TIMES = ("time", "data_time", "rank_data_time", "eta_seconds")  # no two runs agree in these


def start(
    folder: Path, data: tuple[Path, Path], *options: str,
    resume: bool = False, evaluate: bool = False, sabotage: Callable | None = None,
) -> BaseProcess:  # fmt: skip
    """train_net.py's main in a new process, with OUTPUT_DIR `folder`.

    Args:
        data: json and image root of what it trains and tests on.
        evaluate: only evaluate what is in the folder.
        sabotage: called in the process before; a function of a module, or a partial of one.
    """
    flags = ["--resume"] * (resume or evaluate) + ["--eval-only"] * evaluate
    return children.start(_child, folder, data, options, flags, sabotage)


def train(folder: Path, data: tuple[Path, Path], *options: str, **kwargs: Any) -> int:
    """The exit code of such a run; minus the signal's number if one killed it."""
    return children.end(start(folder, data, *options, **kwargs), said=lambda: output(folder))


def report(
    folder: Path, data: tuple[Path, Path], page: Path, sabotage: Callable | None = None
) -> int:
    """The exit code of `python -m iif_d2 report` of a run in a new process."""
    process = children.start(_report, folder, data, page, sabotage)
    return children.end(process, said=lambda: output(folder))


def output(folder: Path) -> str:
    """All that the runs in this folder printed."""
    return Path(f"{folder}.out").read_text()


def _speak_into(path: str) -> None:
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1), os.dup2(out, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)


def _report(folder: Path, data: tuple, page: Path, sabotage: Callable | None) -> None:
    _speak_into(f"{folder}.out")
    from iif_d2 import register_long_tail_instances
    from iif_d2.commands import main

    torch.set_num_threads(1)
    register_long_tail_instances("tiny_lvis", *map(str, data))
    if sabotage is not None:
        sabotage()
    sys.exit(main(["report", str(folder), "--output", str(page), "--pictures", "99"]))


def _child(
    folder: Path, data: tuple, options: tuple, flags: list, sabotage: Callable | None
) -> None:
    _speak_into(f"{folder}.out")
    from detectron2.engine import default_argument_parser

    from iif_d2 import register_long_tail_instances
    from iif_d2.engine import LongTailTrainer, launch, main

    # Data-loader workers are forked, as from a shell: those of a server of their own outlive a kill.
    multiprocessing.set_start_method("fork", force=True)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    register_long_tail_instances("tiny_lvis", *map(str, data))
    _record_order(LongTailTrainer, f"{folder}.order")
    if sabotage is not None:
        sabotage()
    line = ["--config-file", CONFIG, *flags, *TINY]
    launch(main, default_argument_parser().parse_args([*line, "OUTPUT_DIR", str(folder), *options]))


def _record_order(trainer: type, path: str) -> None:
    step = trainer.run_step

    def run_step(self) -> None:
        step(self)
        if self.checkpointer.save_to_disk:  # of many ranks, the first
            with open(path, "a") as file:
                file.write(json.dumps([self.iter, self.data_loader.images]) + "\n")

    trainer.run_step = run_step


def assert_same(one: Path, other: Path) -> None:
    """Two runs ended alike: every tensor and number of the last checkpoint, metrics, order."""
    states = [torch.load(f / "model_final.pth", weights_only=True) for f in (one, other)]
    for state in states:
        forget_times(state)
    differs = difference(*states)
    assert not differs, f"{other}: model_final.pth differs in {differs}"
    lines = [metrics(folder) for folder in (one, other)]
    assert lines[0] == lines[1], f"{other}: metrics.json differs"
    tables = [(f / "inference" / "results.json").read_bytes() for f in (one, other)]
    assert tables[0] == tables[1], f"{other}: inference/results.json differs"
    orders = [_order(folder) for folder in (one, other)]
    assert orders[0] == orders[1], f"{other}: images came in another order"


def forget_times(state: dict) -> None:
    """Take out of a checkpoint what time decides, and what an earlier run left in the folder."""
    exact = state["trainer"]["hooks"]["ExactResume"]
    exact.pop("began")
    for name in TIMES:
        exact["scalars"].pop(name, None)


def difference(one: Any, other: Any, path: str = "") -> str:
    """Where two states differ first; empty if nowhere."""
    if isinstance(one, torch.Tensor):
        same = one.dtype == other.dtype and torch.equal(one, other)
        return "" if same else path
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return f"{path} (keys)"
        pairs = ((one[key], other[key], f"{path}.{key}") for key in one)
    elif isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return f"{path} (length)"
        pairs = ((a, b, f"{path}.{i}") for i, (a, b) in enumerate(zip(one, other)))
    else:
        return "" if one == other or one != one and other != other else path
    return next(filter(None, (difference(*pair) for pair in pairs)), "")


def metrics(folder: Path) -> list[str]:
    """The lines of metrics.json without what time decides; each iteration is there once."""
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    iterations = [line["iteration"] for line in lines]
    assert len(iterations) == len(set(iterations)), f"{folder}: an iteration is there twice"
    kept = [{k: v for k, v in line.items() if k not in TIMES} for line in lines]
    return [json.dumps(line, sort_keys=True) for line in kept]


def _order(folder: Path) -> dict[int, list[str]]:
    """The images of each iteration; where one was done again they were the same."""
    order: dict[int, list[str]] = {}
    for line in Path(f"{folder}.order").read_text().splitlines():
        iteration, images = json.loads(line)
        assert order.setdefault(iteration, images) == images, f"iteration {iteration} differs"
    return order

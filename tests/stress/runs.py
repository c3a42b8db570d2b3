"""Small training runs in processes of their own, to be broken; and what they leave, to compare."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import yaml

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
    line = ["--config-file", CONFIG, *["--resume"] * (resume or evaluate)]
    line += [*["--eval-only"] * evaluate, *TINY, "OUTPUT_DIR", str(folder), *options]
    return children.start(_child, folder, data, sabotage, partial(_train, line))


def train(folder: Path, data: tuple[Path, Path], *options: str, **kwargs: Any) -> int:
    """The exit code of such a run; minus the signal's number if one killed it."""
    return children.end(start(folder, data, *options, **kwargs), said=lambda: output(folder))


def train_to_end(folder: Path, data: tuple[Path, Path], *options: str, **kwargs: Any) -> None:
    """`train`, which has to end well."""
    assert train(folder, data, *options, **kwargs) == 0, output(folder)[-2000:]


def report(
    folder: Path, data: tuple[Path, Path], page: Path, sabotage: Callable | None = None
) -> int:
    """The exit code of `python -m iif_d2 report` of a run in a new process."""
    line = ["report", str(folder), "--output", str(page), "--pictures", "99"]
    process = children.start(_child, folder, data, sabotage, partial(_command, line))
    return children.end(process, said=lambda: output(folder))


def output(folder: Path) -> str:
    """All that the runs in this folder printed."""
    return Path(f"{folder}.out").read_text()


def _child(folder: Path, data: tuple, sabotage: Callable | None, work: Callable) -> None:
    out = os.open(f"{folder}.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1), os.dup2(out, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    from iif_d2 import register_long_tail_instances
    from iif_d2.engine import LongTailTrainer

    # Data-loader workers are forked, as from a shell: those of a server of their own outlive a kill.
    multiprocessing.set_start_method("fork", force=True)
    torch.set_num_threads(1)
    register_long_tail_instances("tiny_lvis", *map(str, data))
    _record_order(LongTailTrainer, f"{folder}.order")
    if sabotage is not None:
        sabotage()
    work()


def _train(line: list[str]) -> None:
    from detectron2.engine import default_argument_parser

    from iif_d2.engine import launch, main

    torch.use_deterministic_algorithms(True)
    launch(main, default_argument_parser().parse_args(line))


def _command(line: list[str]) -> None:
    from iif_d2.commands import main

    sys.exit(main(line))


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
    differs = difference(load(one, "model_final"), load(other, "model_final"))
    assert not differs, f"{other}: model_final.pth differs in {differs}"
    for what, of in (
        ("metrics.json", metrics),
        ("inference/results.json", lambda folder: (folder / "inference/results.json").read_bytes()),
        ("order of images", _order),
    ):
        assert of(one) == of(other), f"{other}: {what} differs"


def load(folder: Path, name: str) -> dict:
    """A checkpoint without what may differ between runs that end alike."""
    state = torch.load(folder / f"{name}.pth", weights_only=True)
    if "trainer" in state:
        forget_times(state)
    state["config"] = without_place(state["config"])
    return state


def without_place(config: str) -> dict:
    """A checkpoint's config without what may differ between runs that end alike."""
    content = yaml.safe_load(config)
    del content["OUTPUT_DIR"], content["DATALOADER"]["NUM_WORKERS"]
    return content


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

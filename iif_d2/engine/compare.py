"""The runs of a comparison: which there are, and training and evaluating what is not done yet."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from types import FrameType

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser
from tqdm import tqdm
from yaml import YAMLError

from ..config import config_path, load_config
from ..errors import DataError, IIFError
from ..evaluation.comparison import COST_FILE, COSTS, read_cost, read_run
from ..files import write_atomically
from ..files.untrusted import parse_yaml
from ..frequency import ClassFrequency
from ..methods import build_method, find_method, method_options
from ..user_modules import add_import_argument
from .jobs import Jobs
from .launch import pass_on
from .preemption import EXIT_PREEMPTED
from .train import main

LOG = "run.log"  # in a run's folder, what it printed
BASE = "Softmax"  # the method whose model second stages and test-time methods stand on


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: in the table, the csv and, in lower case, the folder of its runs.
        config: a yaml config file.
        options: KEY VALUE overrides.
        seeds: how many, from 0 up, where none are asked for.
        base: the row whose model of the same seed it stands on; empty: it trains its own.
        trains: False evaluates the model of `base` as it is.
    """

    name: str
    config: str
    options: tuple[str, ...] = ()
    seeds: int = 1
    base: str = ""
    trains: bool = True

    def folder(self, output: str, seed: int) -> str:
        """OUTPUT_DIR of its run."""
        name = "".join(c if c.isalnum() else "_" for c in self.name.lower())
        return os.path.join(output, "runs", name, f"seed{seed}")


def method_rows(config_file: str, methods: Sequence[str], opts: Sequence[str] = ()) -> list[Row]:
    """A row for each method by one config; Softmax comes first where another stands on it.

    A second stage trains on Softmax's model of the same seed. A method whose loss is softmax's
    differs from it at test alone, and is evaluated on that model.

    Raises:
        UnknownNameError: no such method.
        ConfigError: the config is none, or a method does not work for detection.
    """
    rows = []
    for name in dict.fromkeys(methods):
        method = find_method(name)
        row = Row(name, config_file, ("MODEL.LONG_TAIL.METHOD", name))
        cfg = load_config(config_file, [*row.options, *opts])
        if method.second_stage:
            row = replace(row, base=BASE)
        elif name != BASE and _loss_is_softmax(cfg):
            row = replace(row, base=BASE, trains=False)
        rows.append(row)
    if any(row.base for row in rows):
        base = Row(BASE, config_file, ("MODEL.LONG_TAIL.METHOD", BASE))
        rows = [base, *(row for row in rows if row.name != BASE)]
    return rows


def _loss_is_softmax(cfg: CfgNode) -> bool:
    """Whether the configured method's loss is softmax's, tried on a few logits."""
    counts = ClassFrequency(("a", "b", "c"), [60, 30, 1], [90, 40, 2], 100, dimension=[1.5, 1, 1])
    method = build_method(cfg.MODEL.LONG_TAIL.METHOD, counts, **method_options(cfg))
    if method.num_logits != len(counts) + 1:
        return False
    labels = torch.arange(method.num_logits)
    logits = torch.randn(len(labels), len(labels), generator=torch.Generator().manual_seed(0))
    return bool(torch.equal(method.loss(logits, labels), F.cross_entropy(logits, labels)))


def train_rows(
    output: str,
    rows: Sequence[Row],
    todo: Sequence[tuple[Row, int]],
    opts: Sequence[str] = (),
    jobs: int | None = None,
    imports: Sequence[str] = (),
    launcher: Jobs | None = None,
    prepare: Callable[[], None] | None = None,
    verbose: bool = False,
) -> None:
    """Run these (row, seed)s in their order, `jobs` at a time; what is done is not run again.

    Each run is a process, or the launcher's job, of one thread, in OUTPUT_DIR
    `row.folder(output, seed)`. One that was stopped goes on from its last checkpoint; one waits for
    the run whose model it stands on.

    Args:
        rows: all rows of the comparison, among them those that others stand on.
        opts: KEY VALUE overrides of every run.
        jobs: by default one at a time, or all that the launcher takes.
        imports: modules that each run imports first.
        launcher: starts each run as a job.
        prepare: what each run's process calls first, such as one that registers data.
        verbose: print what the runs log, in place of bars; the launcher's jobs have log files only.

    Raises:
        DataError: a run failed; those after it are not started.
    """
    by_name = {row.name: row for row in rows}
    done: dict[tuple[str, int], Future] = {}
    jobs = jobs or (1 if launcher is None else max(1, len(todo)))
    with ThreadPoolExecutor(jobs) as pool, launcher or contextlib.nullcontext():
        for row, seed in todo:
            words = _command_line(output, row, seed, by_name.get(row.base), opts, imports)
            before_it = done.get((row.base, seed))
            of_child = (words, row.folder(output, seed), prepare)
            run = functools.partial(_run_one, row, seed, of_child, before_it, launcher, verbose)
            done[row.name, seed] = pool.submit(run)
        bar = tqdm(as_completed(done.values()), total=len(done), desc="compare", unit="run")
        usual = signal.signal(signal.SIGTERM, _stop)
        try:
            for future in bar:
                bar.set_postfix_str(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            signal.signal(signal.SIGTERM, usual)


def _stop(number: int, frame: FrameType | None) -> None:
    """The runs save and end, and this process with them."""
    pass_on(number, frame)
    raise SystemExit(EXIT_PREEMPTED)


def _command_line(
    output: str, row: Row, seed: int, base: Row | None, opts: Sequence[str], imports: Sequence[str]
) -> list[str]:
    """The words that train_net.py would take for this run."""
    words = ["--config-file", config_path(row.config), "--resume" if row.trains else "--eval-only"]
    words += [word for name in imports for word in ("--import", name)]
    # Results in between would make a run that was stopped look done.
    words += [*row.options, "TEST.EVAL_PERIOD", "0", "DATALOADER.NUM_WORKERS", "0"]
    words += ["TEST.WRITE_RESULTS", "True", *opts]
    words += ["SEED", str(seed), "OUTPUT_DIR", row.folder(output, seed)]
    if base is not None:
        words += ["MODEL.WEIGHTS", os.path.join(base.folder(output, seed), "model_final.pth")]
    return words


def _run_one(
    row: Row,
    seed: int,
    of_child: tuple[list[str], str, Callable[[], None] | None],
    before_it: Future | None,
    launcher: Jobs | None,
    verbose: bool,
) -> str:
    name, folder = row.name, of_child[1]
    if read_run(name, seed, folder).results is not None:
        return f"{name} {seed} was done"
    if before_it is not None:
        before_it.result()
    os.makedirs(folder, exist_ok=True)
    log = os.path.join(folder, LOG)
    if launcher is not None:
        try:
            launcher.run(_child, *of_child)
        except IIFError as error:
            raise DataError(f"{name}, seed {seed}, failed: {error}; see {log}") from error
        return f"{name} {seed}"
    process = get_context("spawn").Process(target=_child, args=of_child)
    said = os.path.getsize(log) if os.path.exists(log) else 0
    process.start()
    if verbose:
        _echo(process, log, said)
    elif row.trains:
        _follow(process, f"{name}, seed {seed}", folder)
    process.join()
    if process.exitcode:
        raise DataError(f"{name}, seed {seed}, failed; see {log}")
    return f"{name} {seed}"


def _follow(process: BaseProcess, name: str, folder: str) -> None:
    """Wait for a run, with a bar of its iterations where it trains."""
    with tqdm(desc=name, unit="step", leave=False, delay=1) as bar:
        while process.is_alive():
            process.join(2)
            if bar.total is None:
                bar.total = _iterations_in_all(folder)
            bar.update(_iterations_done(folder) - bar.n)


def _echo(process: BaseProcess, log: str, said: int) -> None:
    """Wait for a run, and print what it adds to its log, from byte `said` on."""
    alive = True
    while alive:
        alive = process.is_alive()
        with contextlib.suppress(FileNotFoundError), open(log, "rb") as file:
            file.seek(said)
            text = file.read()
            said += len(text)
            tqdm.write(text.decode(errors="replace"), end="")
        if alive:
            process.join(1)


def _iterations_in_all(folder: str) -> int | None:
    """How many a run will do, by its config.yaml; None until that is written whole."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, IIFError, YAMLError):
        with open(os.path.join(folder, "config.yaml"), encoding="utf-8") as file:
            return parse_yaml(file.read(), file.name)["SOLVER"]["MAX_ITER"]
    return None


def _iterations_done(folder: str) -> int:
    """How many a run has done, by the metrics it has written."""
    with contextlib.suppress(OSError, ValueError, LookupError, AttributeError):
        with open(os.path.join(folder, "metrics.json"), "rb") as file:
            file.seek(max(0, os.path.getsize(file.name) - (1 << 16)))
            return json.loads(file.read().splitlines()[-1]).get("iteration", -1) + 1
    return 0


def _child(words: list[str], folder: str, prepare: Callable[[], None] | None) -> None:
    """A run by itself, so that its time and memory are its own; what it prints goes to a file."""
    log = os.open(os.path.join(folder, LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())
    torch.set_num_threads(1)
    start = time.time()
    try:
        if prepare is not None:
            prepare()
        main(add_import_argument(default_argument_parser()).parse_args(words))
    finally:
        _add_cost(folder, time.time() - start)


def _add_cost(folder: str, wall: float) -> None:
    """Add this process's seconds to what an interrupted run has used before."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    workers = resource.getrusage(resource.RUSAGE_CHILDREN)
    cost = read_cost(folder) or dict.fromkeys(COSTS, 0.0)
    cost["cpu_seconds"] += used.ru_utime + used.ru_stime + workers.ru_utime + workers.ru_stime
    cost["wall_seconds"] += wall
    cost["peak_mb"] = max(cost["peak_mb"], used.ru_maxrss / 1024)
    write_atomically(os.path.join(folder, COST_FILE), json.dumps(cost) + "\n")

"""`python -m iif_d2 benchmark`: every method on mini_lvis by one recipe, in one table."""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from multiprocessing import get_context
from types import FrameType

from detectron2.data import MetadataCatalog
from detectron2.engine import default_argument_parser
from tqdm import tqdm

from ..annotations.decoding import decode_json
from ..config import config_path
from ..data.frequency import count_class_frequency
from ..engine.benchmark_rows import FALSE_POSITIVES, MODELS, NORMS, ROWS, TRAIN, VAL, Row
from ..engine.launch import pass_on
from ..engine.preemption import EXIT_PREEMPTED
from ..engine.train import main
from ..errors import ConfigError, DataError, UnknownNameError
from ..evaluation.lvis_evaluation import RESULTS_FILE
from ..files import write_atomically
from ..plots.benchmark_figures import write_false_positives, write_norms
from ..plots.benchmark_table import (
    COST_FILE,
    COSTS,
    Run,
    read_cost,
    read_run,
    read_table,
    write_tables,
)

CONFIGS = "Mini-InstanceSegmentation"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", default="output/benchmark", help="folder of runs and tables")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only these rows, by name")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of each row's own seeds")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, one thread each")
    parser.add_argument(
        "--earlier", metavar="CSV", help="results.csv of another machine: what it has is not run"
    )
    parser.add_argument("--list", action="store_true", help="say what is done and stop")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="-- KEY VALUE for every run")


def run(args: argparse.Namespace) -> str:
    """Run what is not done yet; write the tables and plots; say where.

    A run that was stopped goes on from its last checkpoint. Runs made with other options are not
    mixed: `opts` must be those that the folder was begun with.
    """
    if args.jobs < 1:
        raise ConfigError(f"--jobs is {args.jobs}; at least one run at a time")
    opts = [word for word in args.opts if word != "--"]
    if "TEST.EVAL_PERIOD" in opts:
        raise ConfigError("TEST.EVAL_PERIOD: a benchmark's run is evaluated once, at its end")
    _check_options(args.output, opts)
    rows = _chosen(args.rows)
    earlier = read_table(args.earlier) if args.earlier else {}
    todo = [(row, seed) for row in rows for seed in args.seeds or range(row.seeds)]
    if not args.list:
        _run_all(args.output, _not_in(earlier, todo), opts, args.jobs)
    lines = write_tables(args.output, _all_runs(args.output, earlier), MODELS)
    return "\n".join(lines + _figures(args.output))


def folder_of(output: str, row: Row, seed: int) -> str:
    """OUTPUT_DIR of a row's run."""
    name = "".join(c if c.isalnum() else "_" for c in row.name.lower())
    return os.path.join(output, "runs", name, f"seed{seed}")


def _figures(output: str) -> list[str]:
    """The poster's figures, from the runs of seed 0 that are there."""
    folders = {row.name: folder_of(output, row, 0) for row in ROWS}
    models = [(name, os.path.join(folders[name], "model_final.pth")) for name in NORMS]
    written = []
    if all(os.path.isfile(path) for _, path in models):
        written += write_norms(output, count_class_frequency(TRAIN), models)
    found = {
        name: os.path.join(folders[name], "inference", VAL, RESULTS_FILE)
        for name in FALSE_POSITIVES
    }
    detections = [(name, path) for name, path in found.items() if os.path.isfile(path)]
    if detections:
        groups = count_class_frequency(TRAIN).groups()
        truth = MetadataCatalog.get(VAL).json_file
        written += write_false_positives(output, truth, groups, detections)
    return written


def _chosen(names: Sequence[str] | None) -> list[Row]:
    known = {row.name: row for row in ROWS}
    for name in names or ():
        if name not in known:
            raise UnknownNameError.of("benchmark row", name, known)
    wanted = set(names or known)
    wanted |= {known[name].on for name in wanted} - {""}
    return [row for row in ROWS if row.name in wanted]


def _not_in(earlier: Mapping, todo: list[tuple[Row, int]]) -> list[tuple[Row, int]]:
    """What is still to run; an earlier run whose model a new one stands on is run again."""
    new = {(row.name, seed) for row, seed in todo} - earlier.keys()
    new |= {(row.on, seed) for row, seed in todo if (row.name, seed) in new}
    return [(row, seed) for row, seed in todo if (row.name, seed) in new]


def _all_runs(output: str, earlier: Mapping[tuple[str, int], Run]) -> list[Run]:
    """Every row of the benchmark, with the seeds that are there; none is left out.

    An earlier run stays in the table where it was run again for its model: other rows of that table
    stand on it.
    """
    bases = {row.on for row in ROWS}
    runs = []
    for row in ROWS:
        folder = os.path.dirname(folder_of(output, row, 0))
        names = os.listdir(folder) if os.path.isdir(folder) else []
        seeds = {int(n[4:]) for n in names if n.startswith("seed") and n[4:].isdigit()}
        seeds |= {seed for name, seed in earlier if name == row.name}
        for seed in sorted(seeds or {0}):
            here = read_run(row.name, seed, folder_of(output, row, seed))
            known = earlier.get((row.name, seed), here)
            runs.append(known if here.results is None or row.name in bases else here)
    return runs


def _check_options(output: str, opts: list[str]) -> None:
    path = os.path.join(output, "options.json")
    if not os.path.exists(path):
        write_atomically(path, json.dumps(opts) + "\n")
        return
    begun = decode_json(path, list[str], "a benchmark's options")
    if begun != opts:
        raise DataError(
            f"{path}: this benchmark was begun with {' '.join(begun) or 'no options'}, not "
            f"{' '.join(opts) or 'none'}; give another --output"
        )


def _run_all(output: str, todo: list[tuple[Row, int]], opts: list[str], jobs: int) -> None:
    """Run in order, `jobs` at a time; a run waits for the one it stands on."""
    done: dict[tuple[str, int], Future] = {}
    with ThreadPoolExecutor(jobs) as pool:
        for row, seed in todo:
            base = done.get((row.on, seed))
            done[row.name, seed] = pool.submit(_run_one, output, row, seed, opts, base)
        bar = tqdm(as_completed(done.values()), total=len(done), desc="benchmark", unit="run")
        before = signal.signal(signal.SIGTERM, _stop)
        try:
            for future in bar:
                bar.set_postfix_str(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: FrameType | None) -> None:
    """The runs save and end, and this process with them."""
    pass_on(number, frame)
    raise SystemExit(EXIT_PREEMPTED)


def _run_one(output: str, row: Row, seed: int, opts: list[str], base: Future | None) -> str:
    folder = folder_of(output, row, seed)
    if read_run(row.name, seed, folder).results is not None:
        return f"{row.name} {seed} was done"
    options = [*row.options, "DATALOADER.NUM_WORKERS", "0", "TEST.WRITE_RESULTS", "True", *opts]
    options += ["SEED", str(seed), "OUTPUT_DIR", folder]
    if row.on:
        if base is not None:
            base.result()
        on = next(other for other in ROWS if other.name == row.on)
        weights = os.path.join(folder_of(output, on, seed), "model_final.pth")
        options += ["MODEL.WEIGHTS", weights]
    os.makedirs(folder, exist_ok=True)
    config = config_path(f"{CONFIGS}/{row.config}.yaml")
    words = ["--config-file", config, "--resume" if row.trains else "--eval-only", *options]
    process = get_context("spawn").Process(target=_child, args=(words, folder))
    process.start()
    process.join()
    if process.exitcode:
        raise DataError(f"{row.name}, seed {seed}, failed; see {os.path.join(folder, 'run.log')}")
    return f"{row.name} {seed}"


def _child(words: list[str], folder: str) -> None:
    """A run by itself, so that its time and memory are its own; what it prints goes to a file."""
    log = os.open(os.path.join(folder, "run.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())
    import torch

    torch.set_num_threads(1)
    start = time.time()
    try:
        main(default_argument_parser().parse_args(words))
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

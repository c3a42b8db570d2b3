"""Training killed by SIGKILL at many moments and resumed each time ends as one never stopped."""

from __future__ import annotations

import functools
import os
import random
import signal
import tempfile
import threading
from pathlib import Path

from . import Outcome, runs, sabotage

# Everything that draws at random or keeps state: repeat factors, groups by shape, the method.
OPTIONS = (
    "SOLVER.MAX_ITER", "24", "SOLVER.CHECKPOINT_PERIOD", "5", "TEST.EVAL_PERIOD", "6",
    "DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler", "DATALOADER.REPEAT_THRESHOLD", "0.5",
    "INPUT.MIN_SIZE_TRAIN", "(48, 56, 64)",
)  # fmt: skip
# What goes on when the kill comes, and the call of it (or tenth of a second) that it comes in at the
# latest: a later one would let the run end.
MOMENTS = {"step": 9, "checkpoint": 2, "replace": 4, "cache": 2, "evaluation": 12, "results": 2,
           "time": 60}  # fmt: skip


def kill_at(moment: str, count: int) -> None:
    """Have this process killed in the `count`-th of such calls, or after so many tenths of a s."""
    from iif_d2.checkpoint import checkpointer
    from iif_d2.engine import evaluate, trainer
    from iif_d2.evaluation import LongTailEvaluator
    from iif_d2.files import disk

    if moment == "time":
        threading.Timer(count / 10, _die).start()
        return
    owner, name = {
        "step": (trainer.SimpleTrainer, "_write_metrics"),  # after backward, before the update
        "checkpoint": (checkpointer.torch, "save"),
        "replace": (disk.os, "replace"),
        "cache": (disk.os, "fsync"),  # the frequency cache is the first file written
        "evaluation": (LongTailEvaluator, "process"),
        "results": (evaluate, "save_results"),
    }[moment]

    def die(*args) -> None:
        if moment == "checkpoint":
            args[1].write(b"PK" + bytes(1000))  # half a file
            args[1].flush()
        _die()

    sabotage.before_call(owner, name, count, die)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def break_run(
    folder: Path, data: tuple[Path, Path], kills: list[tuple[str, int]], *options: str
) -> int:
    """Train, killed at each moment in turn and resumed; how many kills came before the end."""
    done, resume = 0, False
    for kill in kills:
        die = functools.partial(kill_at, *kill)
        code = runs.train(folder, data, *OPTIONS, *options, resume=resume, sabotage=die)
        if code == 0:
            return done
        assert code == -signal.SIGKILL, f"exit code {code}: {runs.output(folder)[-2000:]}"
        resume, done = True, done + 1
    runs.train_to_end(folder, data, *OPTIONS, *options, resume=True)
    return done


def run() -> Outcome:
    from ..conftest import make_dataset

    lines, kills_done = [], 0
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as root:
        data = make_dataset(Path(root) / "data")
        for method, workers in (("FedLoss", "0"), ("DropLoss", "2"), ("EQLv2", "1")):
            options = ("MODEL.LONG_TAIL.METHOD", method, "DATALOADER.NUM_WORKERS", workers)
            whole = Path(root) / f"{method}-whole"
            runs.train_to_end(whole, data, *OPTIONS, *options)
            moments = [rng.choice(list(MOMENTS)) for _ in range(20)]
            killed, part = 0, 0
            while moments:
                kills = [(m, rng.randint(1, MOMENTS[m])) for m in moments[:10]]
                broken = Path(root) / f"{method}-{part}"
                done = break_run(broken, data, kills, *options)
                runs.assert_same(whole, broken)
                killed, part, moments = killed + done, part + 1, moments[max(done, 1) :]
            kills_done += killed
            lines.append(
                f"{method}, {workers} workers: {killed} kills in {part} runs, 0 differences from "
                f"the run that was not stopped in weights, optimizer, method, metrics, order"
            )
    return Outcome(kills_done, lines)

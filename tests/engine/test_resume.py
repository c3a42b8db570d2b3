"""A run that was stopped, however it was, goes on to the same end."""

from __future__ import annotations

import os
import shutil
import signal
from functools import partial

import pytest

from ..faults import runs
from ..faults.kill_resume import OPTIONS, break_run

METHOD = ("MODEL.LONG_TAIL.METHOD", "FedLoss")


@pytest.fixture(scope="module")
def whole(dataset_name, tmp_path_factory):
    """OUTPUT_DIR of a run that was not stopped."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    assert runs.train(folder, *OPTIONS, *METHOD) == 0, runs.output(folder)[-2000:]
    return folder


def test_killed_at_any_moment_and_resumed_it_ends_the_same(whole, tmp_path):
    kills = [("cache", 1), ("checkpoint", 2), ("evaluation", 5)]
    workers = ("DATALOADER.NUM_WORKERS", "2")  # which change nothing
    assert break_run(tmp_path / "out", kills, *METHOD, *workers) == 3
    runs.assert_same(whole, tmp_path / "out")


def test_sigterm_saves_and_a_cut_checkpoint_is_passed_over(whole, tmp_path):
    folder = tmp_path / "out"
    code = runs.train(folder, *OPTIONS, *METHOD, sabotage=partial(terminate_in_step, 12))
    assert code == 143, runs.output(folder)[-2000:]
    assert (folder / "last_checkpoint").read_text() == "model_0000011.pth"
    cut = folder / "model_0000011.pth"
    cut.write_bytes(cut.read_bytes()[:-1000])
    assert runs.train(folder, *OPTIONS, *METHOD, resume=True) == 0
    log = (folder / "log.txt").read_text()
    assert "model_0000011.pth is missing or damaged" in log
    assert "Starting training from iteration 10" in log
    runs.assert_same(whole, folder)


def terminate_in_step(count):
    from detectron2.engine import SimpleTrainer

    original, calls = SimpleTrainer._write_metrics, []

    def sabotaged(*args, **kwargs):
        calls.append(1)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*args, **kwargs)

    SimpleTrainer._write_metrics = sabotaged


def test_a_second_run_in_the_folder_is_refused_until_the_first_is_dead(tmp_path, dataset_name):
    folder = tmp_path / "out"
    first = runs.start(folder, *OPTIONS, *METHOD, sabotage=partial(wait_in_step, tmp_path))
    while not (tmp_path / "waiting").exists():
        assert first.is_alive(), runs.output(folder)[-2000:]
        first.join(0.1)
    short = ("SOLVER.MAX_ITER", "1", "DATASETS.TEST", "()")
    assert runs.train(folder, *short) == 2
    assert "another run trains in OUTPUT_DIR" in runs.output(folder)
    first.kill()
    first.join()
    assert runs.train(folder, *short) == 0
    shutil.rmtree(folder)


def wait_in_step(folder):
    import time

    from iif_d2.engine import LongTailTrainer

    def run_step(self):
        (folder / "waiting").touch()
        time.sleep(600)

    LongTailTrainer.run_step = run_step

"""A run that was stopped, however it was, goes on to the same end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from functools import partial

import pytest

from ..stress import children, runs, sabotage
from ..stress.kill_resume import OPTIONS, break_run

METHOD = ("MODEL.LONG_TAIL.METHOD", "FedLoss")


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """OUTPUT_DIR of a run that was not stopped."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    assert runs.train(folder, dataset, *OPTIONS, *METHOD) == 0, runs.output(folder)[-2000:]
    return folder


def test_killed_at_any_moment_and_resumed_it_ends_the_same(whole, dataset, tmp_path):
    kills = [("cache", 1), ("checkpoint", 2), ("evaluation", 5), ("step", 4)]
    workers = ("DATALOADER.NUM_WORKERS", "2")  # which change nothing
    assert break_run(tmp_path / "out", dataset, kills, *METHOD, *workers) == len(kills)
    runs.assert_same(whole, tmp_path / "out")


def test_sigterm_saves_and_a_cut_checkpoint_is_passed_over(whole, dataset, tmp_path):
    folder = tmp_path / "out"
    code = runs.train(folder, dataset, *OPTIONS, *METHOD, sabotage=partial(terminate_in_step, 12))
    assert code == 143, runs.output(folder)[-2000:]
    assert (folder / "last_checkpoint").read_text() == "model_0000011.pth"
    cut = folder / "model_0000011.pth"
    cut.write_bytes(cut.read_bytes()[:-1000])
    assert runs.train(folder, dataset, *OPTIONS, *METHOD, resume=True) == 0
    log = (folder / "log.txt").read_text()
    assert "model_0000011.pth is missing or damaged" in log
    assert "Starting training from iteration 10" in log
    runs.assert_same(whole, folder)


@pytest.mark.parametrize("image, saved", [(3, "model_0000005.pth"), (27, "model_final.pth")])
def test_sigterm_does_not_wait_for_an_evaluation(whole, dataset, tmp_path, image, saved):
    """In the first one, after six of 24 steps, and in the last one, which training has ended."""
    folder = tmp_path / "out"
    die = partial(sabotage.at_image, image, terminate)
    assert runs.train(folder, dataset, *OPTIONS, *METHOD, sabotage=die) == 143
    assert (folder / "last_checkpoint").read_text() == saved
    assert runs.train(folder, dataset, *OPTIONS, *METHOD, resume=True) == 0
    runs.assert_same(whole, folder)


def test_sigterm_to_all_processes_twice_in_an_evaluation_saves(whole, dataset, tmp_path):
    """As Slurm sends it: to the workers, too, and again while the checkpoint is written."""
    folder = tmp_path / "out"
    workers = ("DATALOADER.NUM_WORKERS", "2")
    die = partial(terminate_group_at_image, 3)
    folder.mkdir()
    (folder / "metrics.json").write_text(EARLIER)  # of another run in the folder, which stays
    assert runs.train(folder, dataset, *OPTIONS, *METHOD, *workers, sabotage=die) == 143
    assert (folder / "last_checkpoint").read_text() == "model_0000005.pth"
    assert runs.train(folder, dataset, *OPTIONS, *METHOD, *workers, resume=True) == 0
    written = (folder / "metrics.json").read_text()
    assert written.startswith(EARLIER)
    (folder / "metrics.json").write_text(written.removeprefix(EARLIER))
    runs.assert_same(whole, folder)


EARLIER = '{"iteration": 900}\n'


def terminate_group_at_image(number):
    from iif_d2.checkpoint import checkpointer

    save = checkpointer.torch.save

    def saved(*args):
        terminate_group()
        time.sleep(0.2)  # for workers that die to be noticed
        save(*args)

    def at_last():
        checkpointer.torch.save = saved
        terminate_group()

    os.setpgid(0, 0)
    sabotage.at_image(number, at_last)


def terminate_group():
    """From outside: a worker takes its parent's SIGTERM for a regular end."""
    words = ["kill", "-TERM", "--", f"-{os.getpgrp()}"]
    subprocess.run(words, start_new_session=True, check=True)


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def terminate_in_step(count):
    from detectron2.engine import SimpleTrainer

    original, calls = SimpleTrainer._write_metrics, []

    def sabotaged(*args, **kwargs):
        calls.append(1)
        if len(calls) == count:
            terminate()
        return original(*args, **kwargs)

    SimpleTrainer._write_metrics = sabotaged


def test_workers_that_ignore_sigterm_do_not_keep_the_process_at_its_end(dataset, tmp_path):
    folder = tmp_path / "out"
    short = ("SOLVER.MAX_ITER", "1", "DATASETS.TEST", "()", "DATALOADER.NUM_WORKERS", "2")
    process = runs.start(folder, dataset, *short, sabotage=keep_trainer)
    assert children.end(process, 120, lambda: runs.output(folder)) == 0


def keep_trainer():
    """As a reference cycle would, and so its loader's workers."""
    from iif_d2.engine import LongTailTrainer

    train = LongTailTrainer.train
    LongTailTrainer.train = lambda self: KEPT.append(self) or train(self)


KEPT = []


def test_a_second_run_in_the_folder_is_refused_until_the_first_is_dead(dataset, tmp_path):
    folder = tmp_path / "out"
    short = ("SOLVER.MAX_ITER", "1", "DATASETS.TEST", "()")
    first = runs.start(folder, dataset, *short, *METHOD, sabotage=partial(wait_in_step, tmp_path))
    try:
        until = time.monotonic() + children.LIMIT
        while not (tmp_path / "waiting").exists():
            assert first.is_alive() and time.monotonic() < until, runs.output(folder)[-2000:]
            first.join(0.1)
        assert runs.train(folder, dataset, *short) == 2
        assert "another run trains in OUTPUT_DIR" in runs.output(folder)
    finally:
        first.kill()
        first.join(children.LIMIT)
    assert runs.train(folder, dataset, *short) == 0


def wait_in_step(folder):
    from iif_d2.engine import LongTailTrainer

    def run_step(self):
        (folder / "waiting").touch()
        time.sleep(children.LIMIT)

    LongTailTrainer.run_step = run_step

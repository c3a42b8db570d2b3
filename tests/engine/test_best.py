"""TEST.BEST_METRIC and TEST.PATIENCE: the best model is kept, and training ends where none comes."""

import json
import math
import os
from functools import partial

import pytest

from iif_d2.engine import LongTailTrainer
from iif_d2.engine.best import BestModel
from iif_d2.errors import ConfigError, UnknownNameError

from ..stress import runs
from .test_resume import terminate_in_step

MINI = "mask_rcnn_R_18_FPN_iif"
PERIODS = ("SOLVER.MAX_ITER", "12", "SOLVER.CHECKPOINT_PERIOD", "2", "TEST.EVAL_PERIOD", "2")
OPTIONS = (*PERIODS, "TEST.BEST_METRIC", "segm/APr", "TEST.PATIENCE", "2")
APR = {2: 1.0, 4: 3.0, 6: 3.0, 8: 2.5}  # by the iterations done; no best after 4


class Saved:
    def __init__(self):
        self.iterations = []

    def save_weights(self, name, iteration):
        self.iterations.append(iteration)


def test_the_best_is_saved_and_an_evaluation_counts_once():
    saved = Saved()
    best = BestModel(saved, "segm/APr", 2, 10)
    for done, value in [(10, 1.0), (20, math.nan), (30, 3.0), (40, 3.0), (40, 3.0)]:
        best.look({"segm": {"APr": value}}, done)
        assert not best.over
    best.look({"bbox": {"APr": 9.0}}, 45)  # as a model without masks
    assert saved.iterations == [9, 29] and best.best == 30 and not best.over
    resumed = BestModel(saved, "segm/APr", 2, 10)
    resumed.load_state_dict(best.state_dict())
    resumed.look({"segm": {"APr": 2.0}}, 50)
    assert resumed.over and not best.over
    other = BestModel(saved, "segm/AP", 2, 10)
    other.load_state_dict(best.state_dict())
    assert other.best is None


def scripted(die=None):
    """APr is as written; the process dies, if it is to, in this evaluation."""
    from detectron2.utils.events import get_event_storage

    from iif_d2.engine import LongTailTrainer

    def test(cls, cfg, model):
        done = min(get_event_storage().iter + 1, max(APR))
        if done == die:
            os._exit(9)
        return {"segm": {"APr": APR[done]}}

    LongTailTrainer.test = classmethod(test)


def scripted_and_terminated():
    scripted()
    terminate_in_step(4)


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "out"
    runs.train_to_end(folder, dataset, *OPTIONS, sabotage=scripted)
    return folder


def test_training_ends_after_the_patience(whole):
    final, best = runs.load(whole, "model_final"), runs.load(whole, "model_best")
    assert final["iteration"] == 7 and best["iteration"] == 3
    assert not runs.difference(best["model"], runs.load(whole, "model_0000003")["model"])
    assert runs.difference(best["model"], final["model"])
    assert "trainer" not in best and best["methods"] == final["methods"]
    assert (whole / "last_checkpoint").read_text() == "model_final.pth"
    log = (whole / "log.txt").read_text()
    assert "training ends after 8 iterations" in log and "Exception" not in log
    lines = (whole / "metrics.json").read_text().splitlines()
    assert json.loads(lines[-1])["segm/APr"] == APR[8]


@pytest.mark.parametrize(
    "moment, code",
    [
        (scripted_and_terminated, 143),
        (partial(scripted, 4), 9),
        (partial(scripted, 8), 9),  # its checkpoint is there, so that it ends before a step
    ],
    ids=["step", "best evaluation", "last evaluation"],
)
def test_a_resumed_run_ends_there_too(whole, dataset, tmp_path, moment, code):
    folder = tmp_path / "out"
    assert runs.train(folder, dataset, *OPTIONS, sabotage=moment) == code, runs.output(folder)
    for _ in range(2):  # also where it has ended
        runs.train_to_end(folder, dataset, *OPTIONS, sabotage=scripted, resume=True)
        for name in ("model_final", "model_best"):
            assert not runs.difference(runs.load(whole, name), runs.load(folder, name))
        assert runs.metrics(whole) == runs.metrics(folder)


def test_what_cannot_be_kept_is_refused_before_the_first_step(tiny_cfg):
    period = ("TEST.EVAL_PERIOD", "2")
    cases = [
        (("TEST.BEST_METRIC", "segm/APr"), ConfigError, "needs an EVAL_PERIOD above 0"),
        (("TEST.PATIENCE", "3", *period), ConfigError, "name one as TEST.BEST_METRIC"),
        (("TEST.BEST_METRIC", "segm/APR", *period), UnknownNameError, "known: bbox/AP, bbox/AP50"),
        # the trainer's evaluator does not compute it
        (("TEST.BEST_METRIC", "segm/APfixed", *period), UnknownNameError, "'segm/APfixed'"),
        (
            ("TEST.BEST_METRIC", "segm/AP", "DATASETS.TEST", "('tiny_lvis', 'tiny_lvis')", *period),
            UnknownNameError,
            "known: tiny_lvis/bbox/AP",
        ),
    ]
    for options, error, message in cases:
        with pytest.raises(error, match=message):
            LongTailTrainer(tiny_cfg(MINI, *options))

"""TEST.BEST_METRIC and TEST.PATIENCE: the best model so far, and when to stop waiting for another.

Detectron2's `BestCheckpointer` makes its file the one that --resume goes on from, and forgets what
was best in a resumed run.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from detectron2.engine import HookBase
from detectron2.evaluation import DatasetEvaluator
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm

from ..checkpoint import LongTailCheckpointer
from ..errors import ConfigError, UnknownNameError
from ..evaluation import LongTailEvaluator

logger = logging.getLogger(__name__)

BEST = "model_best"


class BestModel(HookBase):
    """Keeps `model_best.pth`, the weights with the highest metric at an evaluation, or the first of
    them.

    The trainer shows it each evaluation. An iteration may be shown again, as a resumed run does.

    Args:
        metric: as the log of an evaluation names it, such as "segm/APr"; with several test sets
            the set's name in front.
        patience: evaluations without a new best after which training stops; 0: it does not.
        period: iterations between two evaluations.

    Raises:
        ConfigError: there is no metric for the patience, or no evaluation before the end.
    """

    def __init__(
        self, checkpointer: LongTailCheckpointer, metric: str, patience: int, period: int
    ) -> None:
        if not metric:
            raise ConfigError(
                f"TEST.PATIENCE is {patience}, but of no metric; name one as TEST.BEST_METRIC "
                f"(train.best_metric in a .py config), such as segm/AP"
            )
        if patience < 0 or period <= 0:
            raise ConfigError(
                f"TEST.EVAL_PERIOD is {period} and TEST.PATIENCE {patience}; a best model by "
                f"TEST.BEST_METRIC {metric} needs an EVAL_PERIOD above 0, and a PATIENCE of 0 or "
                f"more (train.eval_period and train.patience in a .py config)"
            )
        self._checkpointer, self._metric, self._patience = checkpointer, metric, patience
        self._values: dict[int, float] = {}  # by the iterations that were done

    @property
    def best(self) -> int | None:
        """The iterations that were done when it was best; None where nothing is known."""
        return max(self._values, key=lambda done: (self._values[done], -done), default=None)

    @property
    def over(self) -> bool:
        """Whether the patience has ended."""
        waited = sum(done > self.best for done in self._values)
        return 0 < self._patience <= waited

    def look(self, results: dict, done: int) -> None:
        """At the results of an evaluation after `done` iterations. All ranks have to call it."""
        value = comm.all_gather(flatten_results_dict(results or {}).get(self._metric, math.nan))[0]
        if not math.isfinite(value):
            logger.warning(
                "%s is nan or not among the results, so that this evaluation does not count",
                self._metric,
            )
            return
        self._values[done] = value
        best = self.best
        if best == done:
            self._checkpointer.save_weights(BEST, iteration=done - 1)
        logger.info(
            "%s is %.4f; the best is %.4f, after iteration %d: %s.pth",
            self._metric, value, self._values[best], best - 1, BEST,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return {"metric": self._metric, "values": dict(self._values)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["metric"] == self._metric:
            self._values = dict(state["values"])


def check_best_metric(metric: str, tests: Sequence[tuple[str, DatasetEvaluator]]) -> None:
    """Raise `UnknownNameError` unless a `LongTailEvaluator` gives it; of others nothing is known.

    Args:
        metric: "": none is asked for.
        tests: each test set's name and evaluator.
    """
    if not metric or not all(isinstance(e, LongTailEvaluator) for _, e in tests):
        return
    known = [
        f"{name}/{task}/{metric}" if len(tests) > 1 else f"{task}/{metric}"
        for name, evaluator in tests
        for task in ("bbox", "segm")
        for metric in evaluator.metric_names
    ]
    if metric not in known:
        raise UnknownNameError.of("TEST.BEST_METRIC", metric, known)

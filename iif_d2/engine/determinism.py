"""What makes a resumed run the run that was never stopped: seeds, data, and metrics in progress."""

from __future__ import annotations

import json
import logging
import os
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.engine import HookBase
from detectron2.engine.hooks import EvalHook, PeriodicWriter
from detectron2.utils import comm
from detectron2.utils.events import EventWriter, JSONWriter, TensorboardXWriter

from ..data import TrainingBatches
from ..seeds import derived_seed

logger = logging.getLogger(__name__)

_WINDOW = 20  # iterations over which Detectron2's writers smooth


class ExactResume(HookBase):
    """Seeds every iteration by itself, and keeps in the checkpoint what the next process needs.

    Args:
        batches: the training loader; starts where training does.
        writers: this process's, whose place in metrics.json is kept; none on other ranks.
        metrics: path of metrics.json.
        hooks: the trainer's. What those for evaluation and writing, which come after the
            checkpointer, do in the iteration of a checkpoint is not in it, so a resumed run does
            it again.

    Attributes:
        resumed: whether a run goes on, if only from its very beginning.
    """

    resumed = False

    def __init__(
        self,
        batches: TrainingBatches,
        writers: Sequence[EventWriter],
        metrics: str,
        hooks: Sequence[HookBase],
    ) -> None:
        self._batches, self._metrics = batches, metrics
        self._later = [hook for hook in hooks if isinstance(hook, (EvalHook, PeriodicWriter))]
        self._writers = [w for w in writers if isinstance(w, (JSONWriter, TensorboardXWriter))]
        self._loaded: dict | None = None
        self._began = 0  # bytes that earlier runs of the folder have left in metrics.json

    def before_train(self) -> None:
        start = self._batches.start = self.trainer.start_iter
        if not start:
            if self.resumed and self._writers:  # it had ended before its first checkpoint
                _cut_metrics(self._metrics, -1, 0)
            elif os.path.isfile(self._metrics):
                self._began = os.path.getsize(self._metrics)
            return
        state = self._loaded or {"written": start - 1, "scalars": {}}
        self._began = state.get("began", 0)
        for name, (smooth, values) in state["scalars"].items():
            for value, iteration in values:
                self.trainer.storage.put_scalar(name, value, smooth, iteration)
        for writer in self._writers:
            writer._last_write = state["written"]
        if self._writers:
            _cut_metrics(self._metrics, state["written"], self._began)
        self.trainer.iter = self.trainer.storage.iter = start - 1
        for hook in self._later:
            hook.after_step()
        self.trainer.iter = self.trainer.storage.iter = start

    def before_step(self) -> None:
        number = derived_seed(self._batches.seed, self.trainer.iter, comm.get_rank())
        random.seed(number)
        np.random.seed(number % 2**32)
        torch.manual_seed(number)

    def state_dict(self) -> dict[str, Any]:
        storage = self.trainer.storage
        scalars = {
            name: [storage.smoothing_hints()[name], [list(v) for v in history.values()[-_WINDOW:]]]
            for name, history in storage.histories().items()
        }
        written = max((writer._last_write for writer in self._writers), default=-1)
        return {
            "seed": self._batches.seed,
            "written": written,
            "began": self._began,
            "scalars": scalars,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._loaded = state
        self._batches.reseed(state["seed"])


def _cut_metrics(path: str, written: int, began: int) -> None:
    """Drop the lines after iteration `written`, which will come again, and half a line of a kill.

    In place, as the writer has the file open; lines only ever come at its end. The first `began`
    bytes, an earlier run's, stay.
    """
    if not os.path.isfile(path):
        return
    kept = began
    with open(path, "rb") as file:
        file.seek(began)
        for line in file:
            try:
                later = json.loads(line)["iteration"] > written
            except (ValueError, KeyError, TypeError):
                later = True
            if later or not line.endswith(b"\n"):
                break
            kept += len(line)
    if kept < os.path.getsize(path):
        logger.info("%s: lines after iteration %d are cut off; they come again", path, written)
        os.truncate(path, kept)

"""The scalars of a training run, of which memory keeps the last ones only."""

from __future__ import annotations

import functools

from detectron2.engine import HookBase
from fvcore.common.history_buffer import HistoryBuffer

KEPT = 1000  # iterations: as far as anything looks back, which is the time left on the console


class BoundedHistory(HookBase):
    """Keeps `KEPT` values of each scalar; Detectron2 keeps a million, 2.4 kB a step."""

    def before_train(self) -> None:
        histories = self.trainer.storage.histories()
        histories.default_factory = functools.partial(HistoryBuffer, max_length=KEPT)

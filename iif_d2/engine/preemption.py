"""SIGTERM, as a scheduler sends it before it takes the machine: save, and go."""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType
from typing import Optional

from detectron2.checkpoint import Checkpointer
from detectron2.engine import HookBase
from detectron2.utils import comm

logger = logging.getLogger(__name__)

EXIT_PREEMPTED = 128 + signal.SIGTERM  # 143, what a shell says of a process that SIGTERM ended
GRACE = 60  # seconds to the end of the step; after them the process ends without saving
_PERIOD = 10  # iterations after which several processes ask each other


class SaveOnSigterm(HookBase):
    """After SIGTERM, saves a checkpoint at the end of the iteration and exits with code 143.

    Several processes agree at every tenth iteration. A process that does not get there, because
    another one died, ends after `GRACE` seconds.
    """

    def __init__(self, checkpointer: Checkpointer) -> None:
        self._checkpointer = checkpointer
        self._asked = False
        self._timer: Optional[threading.Timer] = None
        self._previous = None

    def before_train(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._ask)

    def after_step(self) -> None:
        iteration = self.trainer.iter
        if comm.get_world_size() > 1:
            if (iteration + 1) % _PERIOD or not any(comm.all_gather(self._asked)):
                return
        elif not self._asked:
            return
        if iteration + 1 >= self.trainer.max_iter:
            return  # the last iteration is saved anyway
        self._cancel()
        self._checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
        comm.synchronize()  # a process that left early would have the others stopped
        logger.warning("SIGTERM: saved at iteration %d; go on with --resume", iteration)
        raise SystemExit(EXIT_PREEMPTED)

    def after_train(self) -> None:
        self._cancel()
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def _ask(self, number: int, frame: Optional[FrameType]) -> None:
        if not self._asked:
            self._asked = True
            self._timer = threading.Timer(GRACE, os._exit, (EXIT_PREEMPTED,))
            self._timer.daemon = True
            self._timer.start()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

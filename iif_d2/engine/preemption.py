"""SIGTERM, as a scheduler sends it before it takes the machine: save, and go."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from detectron2.checkpoint import Checkpointer
from detectron2.engine import HookBase
from detectron2.engine.hooks import EvalHook
from detectron2.utils import comm

logger = logging.getLogger(__name__)

EXIT_PREEMPTED = 128 + signal.SIGTERM  # 143, what a shell says of a process that SIGTERM ended
GRACE = 60  # seconds to the end of the step; after them the process ends without saving
_PERIOD = 10  # iterations after which several processes ask each other
T = TypeVar("T")


class SaveOnSigterm(HookBase):
    """After SIGTERM, saves a checkpoint at the end of the iteration and exits with code 143.

    Several processes agree at every tenth iteration. A process that does not get there, because
    another one died or ten steps take longer, ends after `GRACE` seconds without saving, and says
    so. `evaluation_hooks` puts it where it belongs.
    """

    def __init__(self, checkpointer: Checkpointer) -> None:
        self._checkpointer = checkpointer
        self._asked = self._evaluating = False
        self._timer: threading.Timer | None = None
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
        self._save(iteration)
        comm.synchronize()  # a process that left early would have the others stopped
        raise SystemExit(EXIT_PREEMPTED)

    def at_once(self, evaluate: Callable[[], T]) -> Callable[[], T]:
        """`evaluate`, in which SIGTERM does not wait: no step changes the weights.

        Of several processes the main one saves, and the others end with it, in their next
        collective. What was evaluated is lost; a resumed run evaluates again.
        """

        def interruptible() -> T:
            self._evaluating = comm.is_main_process()
            try:
                if self._evaluating and self._asked:
                    self._leave_evaluation()
                return evaluate()
            finally:
                self._evaluating = False
                if self._training_ends():
                    self._restore()

        return interruptible

    def _leave_evaluation(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would save into the first
        self._cancel()
        if self.trainer.iter < self.trainer.max_iter:  # else the last iteration has been saved
            self._save(self.trainer.iter)
        raise SystemExit(EXIT_PREEMPTED)

    def _save(self, iteration: int) -> None:
        self._checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
        logger.warning("SIGTERM: saved at iteration %d; go on with --resume", iteration)

    def after_train(self) -> None:
        if not self._training_ends():  # it failed; else there is an evaluation yet
            self._restore()

    def _training_ends(self) -> bool:
        return self.trainer.iter + 1 >= self.trainer.max_iter

    def _restore(self) -> None:
        self._cancel()
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if not self._asked:
            self._asked = True
            self._timer = threading.Timer(GRACE, _give_up)
            self._timer.daemon = True
            self._timer.start()
        if self._evaluating:
            self._leave_evaluation()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def evaluation_hooks(
    checkpointer: Checkpointer, period: int, evaluate: Callable[[], dict]
) -> list[HookBase]:
    """`EvalHook`, and before it the `SaveOnSigterm` that an evaluation does not keep waiting."""
    save_on_sigterm = SaveOnSigterm(checkpointer)
    return [save_on_sigterm, EvalHook(period, save_on_sigterm.at_once(evaluate))]


def _give_up() -> None:
    logger.error("SIGTERM: no step has ended within %d s; this process ends unsaved", GRACE)
    os._exit(EXIT_PREEMPTED)

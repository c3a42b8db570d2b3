"""The trainer: the parts of a config, Detectron2's step, and hooks for all the rest."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import weakref
from typing import Any

from detectron2.checkpoint import Checkpointer
from detectron2.config import CfgNode
from detectron2.engine import (
    AMPTrainer,
    HookBase,
    SimpleTrainer,
    create_ddp_model,
    default_writers,
    hooks,
)
from detectron2.engine.train_loop import TrainerBase
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from omegaconf import DictConfig

from ..checkpoint import LongTailCheckpointer, settle_frequencies
from ..data import NamedBatches, TrainingBatches
from ..errors import CheckpointError, ConfigError
from .accumulation import AccumulatingAMPTrainer, AccumulatingTrainer, check_parts
from .averaging import WeightAverage
from .best import BestModel
from .determinism import ExactResume
from .finite import diverged, refuse_bad_gradients, refuse_endless_overflow
from .hooks import BoundedHistory, ClassifierStats, FrozenNorms
from .lazy import parts_from_lazy
from .parts import CfgBuilders, parts_from_cfg
from .preemption import evaluation_hooks
from .second_stage import ObservingTrainer, learns, second_stage_methods

logger = logging.getLogger(__name__)


class _EndedEarly(BaseException):
    """Leaves the loop of iterations; no `Exception`, which Detectron2 would log as a failure."""


class LongTailTrainer(CfgBuilders, TrainerBase):
    """Trains a detector on long-tailed data, on GPUs or CPU, in one process or many.

    Used as Detectron2's `DefaultTrainer`:

        trainer = LongTailTrainer(cfg)
        trainer.resume_or_load(resume=False)
        trainer.train()

    Args:
        cfg: a yaml config or a LazyConfig; see `parts_from_cfg` and `parts_from_lazy`.

    Attributes:
        cfg, data_loader, optimizer, scheduler, max_iter: as in `TrainingParts`.
        model: in DistributedDataParallel, where there are several processes. Under MODEL_EMA its
            weights are those that learn; their average is in the checkpoints.
        checkpointer: a `LongTailCheckpointer`.
        start_iter: the first iteration; above 0 where a run is resumed.
    """

    def __init__(self, cfg: CfgNode | DictConfig) -> None:
        super().__init__()
        if isinstance(cfg, DictConfig):
            parts = parts_from_lazy(cfg)
        else:
            parts = parts_from_cfg(cfg, type(self))
        self._parts, self.cfg, self.max_iter = parts, parts.cfg, parts.max_iter
        self.optimizer, self.scheduler = parts.optimizer, parts.scheduler
        self.model, self.data_loader = parts.model, parts.data_loader
        if not isinstance(self.data_loader, TrainingBatches):
            self.data_loader = NamedBatches(self.data_loader)
        step = ObservingTrainer
        if learns(self.model):  # DistributedDataParallel refuses a model without gradients
            on_cpu = next(self.model.parameters()).device.type == "cpu"
            devices = {"device_ids": None} if on_cpu else {}
            self.model = create_ddp_model(self.model, **parts.ddp, **devices)
            step = AMPTrainer if parts.amp else SimpleTrainer
            if isinstance(self.data_loader, TrainingBatches):
                check_parts(parts.accumulate, self.data_loader.batch_size)
            if parts.accumulate != 1:
                step = AccumulatingAMPTrainer if parts.amp else AccumulatingTrainer
                step = functools.partial(step, parts=parts.accumulate)
        self._trainer = step(self.model, self.data_loader, self.optimizer)
        self._second_stage = second_stage_methods(self.model)
        self.checkpointer = LongTailCheckpointer(
            self.model, parts.output_dir, trainer=weakref.proxy(self)
        )
        self.checkpointer.datasets = parts.datasets
        self.checkpointer.class_frequency = parts.class_frequency
        if isinstance(parts.cfg, CfgNode):
            self.checkpointer.config = parts.cfg.dump()
        self._last_results: dict | None = None
        self._evaluated: tuple | None = None  # after how many iterations, and by what
        self._stopping = False
        self._average: WeightAverage | None = None
        if parts.ema_decay is not None:
            self._average = WeightAverage(parts.model, parts.ema_decay)
            self.checkpointer.average = self._average.average
        self._best: BestModel | None = None
        if parts.best_metric or parts.patience:
            self._best = BestModel(
                self.checkpointer, parts.best_metric, parts.patience, parts.eval_period
            )
        self.register_hooks(self.build_hooks())
        refuse_bad_gradients(self.model, self.optimizer)

    def build_hooks(self) -> list[HookBase]:
        """What a step needs comes first, what resuming needs last."""
        parts, is_main = self._parts, comm.is_main_process()
        before: list[HookBase] = [BoundedHistory(), *self._frozen_norms()]
        if self._average:
            before.append(self._average)
        if self._best:
            before.append(self._best)
        if is_main and parts.class_frequency and parts.classifier_period > 0:
            before.append(ClassifierStats(parts.class_frequency, parts.classifier_period))
        before += [hooks.IterationTimer(), hooks.LRScheduler(), *parts.hooks]
        if is_main:
            before.append(hooks.PeriodicCheckpointer(self.checkpointer, **parts.checkpointer))
        # A failure in an evaluation loses no training, and what it finds is written.
        writers = self.build_writers() if is_main else []
        after = evaluation_hooks(self.checkpointer, parts.eval_period, self._evaluate)
        if is_main:
            after.append(hooks.PeriodicWriter(writers, parts.log_period))
        if isinstance(self.data_loader, TrainingBatches):
            metrics = os.path.join(parts.output_dir, "metrics.json")
            after.append(ExactResume(self.data_loader, writers, metrics, after))
        return before + after

    def build_writers(self) -> list[EventWriter]:
        """The console, metrics.json and TensorBoard."""
        return default_writers(self._parts.output_dir, self.max_iter)

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the last checkpoint of the output folder, or start from the config's weights.

        Args:
            resume: take the last checkpoint, if there is one. One that does not fit is refused.

        Raises:
            CheckpointError: see `LongTailCheckpointer.load`.
            ConfigError: the method is a second stage, and there is no model to stand on.
        """
        weights = self._parts.weights
        resuming = resume and self.checkpointer.has_checkpoint()
        if self._second_stage and not resuming and not weights:
            raise ConfigError(
                f"{type(self._second_stage[0]).__name__} is a second stage over a frozen model; "
                f"set MODEL.WEIGHTS (train.init_checkpoint in a .py config) to a checkpoint "
                f"trained with METHOD Softmax"
            )
        for hook in self._hooks:
            if isinstance(hook, ExactResume):
                hook.resumed = resume
        self.checkpointer.strict_shapes = resuming
        self.checkpointer.resume_or_load(weights, resume=resume)
        if resuming:
            self.start_iter = self.iter + 1
            weights = self.checkpointer.get_checkpoint_file()
        settle_frequencies(self.model, training=True, checkpoint=weights)
        for method in self._second_stage:
            if method.has_state and not resuming:
                method.reset()  # an earlier pass may have come with the weights

    def train(self) -> dict | None:
        """Train to the end; the results of the last evaluation, if there was one.

        Raises:
            DivergedError: losses, gradients or proposals are NaN or infinite.
            KeyboardInterrupt: says what was saved.
        """
        if self._best and self._best.over:  # a resumed run that had ended
            self.max_iter = self.start_iter
        try:
            super().train(self.start_iter, self.max_iter)
        except _EndedEarly:
            logger.info("TEST.PATIENCE: training ends after %d iterations", self.max_iter)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._where_it_stopped()) from None
        expected = isinstance(self.cfg, CfgNode) and self.cfg.TEST.EXPECTED_RESULTS
        if expected and comm.is_main_process():
            verify_results(self.cfg, self._last_results)
        return self._last_results

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        try:
            self._trainer.run_step()
            if isinstance(self._trainer, AMPTrainer):
                refuse_endless_overflow(self._trainer.grad_scaler)
        except FloatingPointError as error:
            raise diverged(error, self.iter, self.data_loader.images, self.checkpointer) from error

    def before_train(self) -> None:
        super().before_train()
        self._end_early(self.start_iter)

    def after_step(self) -> None:
        super().after_step()
        self._end_early(self.iter + 1)

    def after_train(self) -> None:
        self.iter = min(self.iter, self.max_iter)  # a run resumed after its end has one more
        super().after_train()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if not self._average and WeightAverage.__name__ in state_dict.get("hooks", {}):
            raise CheckpointError(
                "the checkpoint has averaged weights, from which no training goes on; resume with "
                "MODEL_EMA.ENABLED True (train.model_ema.enabled in a .py config), or start anew "
                "from it by MODEL.WEIGHTS"
            )
        # Version 0.1.0 kept a LazyConfig's optimizer beside the hooks.
        step = {key: value for key, value in state_dict.items() if key != "hooks"}
        self._trainer.load_state_dict(state_dict.get("_trainer", step))

    def _evaluate(self) -> dict:
        done, parts = min(self.iter + 1, self.max_iter), self._parts
        evaluate = parts.evaluate_last if done == self.max_iter else parts.evaluate
        if (done, evaluate) == self._evaluated:  # training has ended early, and here
            return self._last_results
        with self._average.applied() if self._average else contextlib.nullcontext():
            self._last_results = evaluate(self.model)
            if self._best:
                self._best.look(self._last_results, done)
                if self._best.over and done < self.max_iter:
                    self.max_iter, self._stopping = done, True
        self._evaluated = done, evaluate
        return self._last_results

    def _end_early(self, done: int) -> None:
        """Where `BestModel` has waited long enough, end as after the last iteration."""
        if self._stopping:
            self.iter = done - 1
            self.checkpointer.save("model_final", iteration=self.iter)
            self.iter = done
            raise _EndedEarly

    def _where_it_stopped(self) -> str:
        where = f"training was at iteration {self.iter} of {self.max_iter}, "
        if not self.checkpointer.has_checkpoint():
            return where + "and no checkpoint was saved yet"
        last = Checkpointer.get_checkpoint_file(self.checkpointer)
        return where + f"the last checkpoint is {last}; go on with --resume"

    def _frozen_norms(self) -> list[HookBase]:
        if self._second_stage:
            return [FrozenNorms(self.model)]
        if self._parts.fixed_statistics:
            backbone = self._parts.model.backbone
            return [FrozenNorms(getattr(backbone, "bottom_up", backbone))]
        return []

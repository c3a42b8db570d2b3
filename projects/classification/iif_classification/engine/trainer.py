"""The training loop: steps, schedule, validation, and a state from which a resume is exact."""

from __future__ import annotations

import logging
import math
import os
import time

import torch
from fvcore.common.config import CfgNode
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from iif_d2.errors import CheckpointError, IIFError
from iif_d2.frequency import ClassFrequency
from iif_d2.seeds import derived_seed

from ..data.loaders import EvaluationLoader
from ..modeling.build import set_mode
from ..modeling.recognizer import Recognizer
from .checkpoint import load_state, rng_state, save_model, save_state, set_rng_state
from .distributed import Ranks
from .evaluate import evaluate
from .optimizer import build_optimizer, build_scheduler
from .preprocess import Prepare, autocast, build_mixup
from .writer import ScalarWriter

logger = logging.getLogger(__name__)


class Trainer:
    """Trains a model on the batches of a loader, and chooses by validation where there is some.

    Files in OUTPUT_DIR: last.pth (the state to resume from), model_final.pth (after the last
    epoch), model_best.pth (by the class mean of validation), events of TensorBoard.

    Args:
        cfg: the whole config.
        model: on its device.
        loader: `.order` and `.batches(epoch, start)`; see `build_loader`.
        frequency: of the training images.
        val: validation images of this rank, or None.

    Attributes:
        epoch, step: where training stands; `step` counts within the epoch.
        images_per_second: of this process's training so far, over all ranks, without validation.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: Recognizer,
        loader,
        frequency: ClassFrequency,
        ranks: Ranks,
        val: EvaluationLoader | None = None,
    ) -> None:
        self.cfg, self.loader, self.frequency, self.ranks, self.val = (
            cfg, loader, frequency, ranks, val,
        )  # fmt: skip
        solver = cfg.SOLVER
        self.optimizer = build_optimizer(solver, model)
        self.scheduler = build_scheduler(solver, self.optimizer, loader.order.steps)
        self.scaler = torch.amp.GradScaler(ranks.device.type, enabled=solver.AMP == "fp16")
        self.mixup = build_mixup(solver.MIXUP)
        self.prepare = build_prepare(cfg, ranks.device)
        self.model = model
        if cfg.MODEL.COMPILE:
            model.backbone.compile()
        self.parallel = model
        if ranks.world_size > 1:
            gpus = [ranks.device.index] if ranks.device.type == "cuda" else None
            self.parallel = DistributedDataParallel(model, device_ids=gpus)
        self.epoch = self.step = 0
        self.best: float | None = None
        self.seconds, self.images = 0.0, 0
        # Ranks draw different mixup shares; a resume overwrites this by what was saved.
        torch.manual_seed(derived_seed(cfg.SEED, ranks.rank, 1))

    @property
    def images_per_second(self) -> float | None:
        return self.images / self.seconds if self.seconds else None

    def train(self) -> None:
        """Train from where it stands to the end and write model_final.pth.

        Raises:
            IIFError: the loss is not finite.
        """
        last = self.cfg.SOLVER.EPOCHS
        with ScalarWriter(self.cfg.OUTPUT_DIR, self.ranks.is_main) as writer:
            while self.epoch < last:
                self._train_epoch(writer)
                self.epoch, self.step = self.epoch + 1, 0
                if self.val is not None and (
                    self.epoch % self.cfg.SOLVER.VAL_PERIOD == 0 or self.epoch == last
                ):
                    self._validate(writer)
                if self.epoch % self.cfg.SOLVER.CHECKPOINT_EPOCHS == 0 or self.epoch == last:
                    self.save()
        self.ranks.share_buffers(self.model)
        if self.ranks.is_main:
            save_model(self._path("model_final.pth"), self.model, self.frequency, self.cfg)

    def run_step(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """One optimiser step over uint8 images; the loss, not yet waited for."""
        device, mix = self.ranks.device, None
        images = self.prepare(images)
        labels = labels.to(device, non_blocking=True)
        if self.mixup is not None:
            images, mix = self.mixup(images, labels)
        with autocast(self.cfg.SOLVER.AMP, device):
            loss = self.parallel(images, labels, mix)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        return loss.detach()

    def save(self) -> None:
        """Write last.pth; every rank takes part."""
        self.ranks.share_buffers(self.model)
        generators = self.ranks.gather(rng_state(self.ranks.device))
        if not self.ranks.is_main:
            return
        training = {
            "epoch": self.epoch,
            "step": self.step,
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generators": generators,
            "seconds": self.seconds,
            "images": self.images,
        }
        save_state(self._path("last.pth"), self.model, self.frequency, self.cfg, training)

    def resume(self) -> bool:
        """Go on from last.pth as if never stopped; False if there is none.

        Raises:
            CheckpointError: it is damaged, or of another run.
        """
        path = self._path("last.pth")
        if not os.path.isfile(path):
            logger.info("%s does not exist; training starts from the beginning", path)
            return False
        state = load_state(path, self.model, self.frequency, self.cfg)
        if len(state["generators"]) != self.ranks.world_size:
            raise CheckpointError(
                f"{path} was written by {len(state['generators'])} ranks, there are "
                f"{self.ranks.world_size}; resume with as many"
            )
        self.epoch, self.step, self.best = state["epoch"], state["step"], state["best"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        self.seconds, self.images = state["seconds"], state["images"]
        set_rng_state(state["generators"][self.ranks.rank], self.ranks.device)
        logger.info("resumed %s after epoch %d, step %d", path, self.epoch, self.step)
        return True

    def _train_epoch(self, writer: ScalarWriter) -> None:
        solver, steps = self.cfg.SOLVER, self.loader.order.steps
        set_mode(self.model, self.cfg)
        if hasattr(self.model.method, "set_epoch"):
            self.model.method.set_epoch(self.epoch)
        recent = torch.zeros((), device=self.ranks.device)
        counted, begin = 0, time.perf_counter()
        batches = tqdm(
            self.loader.batches(self.epoch, self.step), f"epoch {self.epoch + 1}/{solver.EPOCHS}",
            total=steps, initial=self.step, leave=False, unit="step",
            disable=None if self.ranks.is_main else True,
        )  # fmt: skip
        for images, labels in batches:
            recent += self.run_step(images, labels)
            self.step += 1
            counted += 1
            done = self.epoch * steps + self.step
            if done % solver.LOG_STEPS == 0 or self.step == steps:
                loss = self._finite(recent / counted)
                recent, counted = torch.zeros_like(recent), 0
                writer.add({"train/loss": loss, "train/lr": self.scheduler.get_last_lr()[0]}, done)
            if (
                solver.CHECKPOINT_STEPS
                and self.step % solver.CHECKPOINT_STEPS == 0
                and self.step < steps
            ):
                self._count_time(begin)
                self.save()
                begin = time.perf_counter()
        self._count_time(begin)
        logger.info(
            "epoch %d/%d: loss %.4f, lr %.2e, %.0f images/s",
            self.epoch + 1, solver.EPOCHS, loss, self.scheduler.get_last_lr()[0],
            self.images_per_second,
        )  # fmt: skip
        writer.add({"train/images_per_second": self.images_per_second}, done)

    def _count_time(self, begin: float) -> None:
        self.seconds += time.perf_counter() - begin
        done = self.epoch * self.loader.order.steps + self.step
        self.images = done * self.cfg.SOLVER.BATCH_SIZE

    def _validate(self, writer: ScalarWriter) -> None:
        with autocast(self.cfg.SOLVER.AMP, self.ranks.device):
            scores = evaluate(self.model, self.val, self.prepare, self.frequency, self.ranks)
        logger.info("validation after epoch %d: %s", self.epoch, scores.summary())
        done = self.epoch * self.loader.order.steps
        writer.add({"val/top1": scores.top1, "val/mean_class": scores.mean_class}, done)
        if self.best is None or scores.mean_class > self.best:
            self.best = scores.mean_class
            if self.ranks.is_main:
                save_model(self._path("model_best.pth"), self.model, self.frequency, self.cfg)

    def _finite(self, loss: torch.Tensor) -> float:
        value = float(loss)
        if not math.isfinite(value):
            raise IIFError(
                f"the loss is {value} in epoch {self.epoch + 1}, step {self.step}; "
                f"lower SOLVER.LR, or train without SOLVER.AMP"
            )
        return value

    def _path(self, name: str) -> str:
        return os.path.join(self.cfg.OUTPUT_DIR, name)


def build_prepare(cfg: CfgNode, device: torch.device) -> Prepare:
    """The preparation of batches that this config's model takes."""
    return Prepare(cfg.DATA.MEAN, cfg.DATA.STD, device, cfg.MODEL.CHANNELS_LAST)

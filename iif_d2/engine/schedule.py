"""The solver's numbers for this many processes, and for other data by epochs."""

from __future__ import annotations

import logging
import math

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer

from ..data import config_repeat_factors, training_dicts
from ..errors import ConfigError

logger = logging.getLogger(__name__)


def fit_schedule(cfg: CfgNode, num_workers: int) -> CfgNode:
    """`cfg` with the schedule that `num_workers` GPUs, or processes, and the data ask for.

    With SOLVER.REFERENCE_WORLD_SIZE, Detectron2 scales what was given for that many GPUs: batch and
    rate by num_workers / reference; MAX_ITER, STEPS, WARMUP_ITERS, TEST.EVAL_PERIOD and
    CHECKPOINT_PERIOD by its inverse. Then SOLVER.EPOCHS, where it is set, decides the iterations.

    Raises:
        ConfigError: the batch is no multiple of the reference, or a number is too low.
    """
    solver = cfg.SOLVER
    if solver.REFERENCE_WORLD_SIZE and solver.IMS_PER_BATCH % solver.REFERENCE_WORLD_SIZE:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH {solver.IMS_PER_BATCH} is for SOLVER.REFERENCE_WORLD_SIZE "
            f"{solver.REFERENCE_WORLD_SIZE} GPUs and no multiple of it; make it one, or set "
            f"REFERENCE_WORLD_SIZE to 0 to take the solver's numbers as they are"
        )
    cfg = DefaultTrainer.auto_scale_workers(cfg, num_workers)
    if solver.EPOCHS:
        cfg = _in_epochs(cfg)
    _check_periods(cfg)
    if cfg.SOLVER.WARMUP_ITERS >= cfg.SOLVER.MAX_ITER:
        warn_of_warmup(f"SOLVER.WARMUP_ITERS {cfg.SOLVER.WARMUP_ITERS}", cfg.SOLVER.MAX_ITER)
    return cfg


def warn_of_warmup(key_value: str, iterations: int) -> None:
    """Say that the learning rate will not get to what the config says."""
    logger.warning(
        "%s warms up over all of the %d iterations: the learning rate never gets to the config's, "
        "and the model learns little or nothing; lower it, to a tenth of them for example",
        key_value, iterations,
    )  # fmt: skip


def _check_periods(cfg: CfgNode) -> None:
    """Values that would end a run in the middle, or before it begins."""
    for key in ("MAX_ITER", "CHECKPOINT_PERIOD"):
        if cfg.SOLVER[key] < 1:
            raise ConfigError(f"SOLVER.{key} is {cfg.SOLVER[key]}; it must be 1 or more")


def _in_epochs(cfg: CfgNode) -> CfgNode:
    """MAX_ITER is EPOCHS passes of the data; STEPS keep their share of it, and WARMUP_ITERS is at
    most a tenth."""
    if cfg.SOLVER.EPOCHS < 0:
        raise ConfigError(f"SOLVER.EPOCHS is {cfg.SOLVER.EPOCHS}; it must be 0 or more")
    images = _epoch_images(cfg)
    epoch = math.ceil(images / cfg.SOLVER.IMS_PER_BATCH)
    share = cfg.SOLVER.EPOCHS * epoch / cfg.SOLVER.MAX_ITER
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.MAX_ITER = cfg.SOLVER.EPOCHS * epoch
    cfg.SOLVER.WARMUP_ITERS = min(cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.MAX_ITER // 10)
    steps = {round(step * share) for step in cfg.SOLVER.STEPS}
    # In few iterations steps fall together, or on the beginning or end, where there are none.
    cfg.SOLVER.STEPS = tuple(sorted(step for step in steps if 0 < step < cfg.SOLVER.MAX_ITER))
    cfg.freeze()
    logger.info(
        "%d epochs of %.0f images: %d iterations of %d, %d of warm-up, steps at %s",
        cfg.SOLVER.EPOCHS, images, cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH,
        cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.STEPS,
    )  # fmt: skip
    return cfg


def _epoch_images(cfg: CfgNode) -> float:
    """Images in a pass of the training set; what repeat factor sampling repeats, on average."""
    dicts = training_dicts(cfg)
    if cfg.DATALOADER.SAMPLER_TRAIN != "RepeatFactorTrainingSampler":
        return len(dicts)
    return config_repeat_factors(cfg, dicts).double().sum().item()

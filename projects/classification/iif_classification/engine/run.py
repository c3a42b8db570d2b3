"""A whole run: one or two stages of training, then one test; or a test of a saved model."""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import random
import sys

import numpy as np
import torch
from fvcore.common.config import CfgNode

from iif_d2.errors import ConfigError
from iif_d2.files import write_atomically

from ..config import load_config
from ..data import LabelledImages, build_evaluation, build_loader, build_splits, build_test
from ..modeling import build_model
from ..modeling.recognizer import Recognizer
from .checkpoint import load_model
from .distributed import Ranks
from .evaluate import Scores, evaluate
from .preprocess import autocast
from .trainer import Trainer, build_prepare

logger = logging.getLogger(__name__)


def run(cfg: CfgNode, ranks: Ranks, resume: bool = False) -> Scores:
    """Train, test the chosen model once, write OUTPUT_DIR/results.json.

    Chosen is the best on validation where there is a validation set, else the last epoch's; the
    test set decides nothing.

    Raises:
        IIFError: the config, the data or a checkpoint cannot work.
    """
    cfg = cfg.clone()
    if cfg.STAGE1.CONFIG and not cfg.MODEL.WEIGHTS:
        first = first_stage(cfg)
        logger.info("first stage: %s in %s", cfg.STAGE1.CONFIG, first.OUTPUT_DIR)
        run(first, ranks, resume)
        cfg.MODEL.WEIGHTS = _chosen(first)
        logger.info("second stage, from %s", cfg.MODEL.WEIGHTS)
    if (cfg.MODEL.FREEZE or cfg.MODEL.REINIT_HEAD) and not cfg.MODEL.WEIGHTS:
        raise ConfigError(
            "MODEL.FREEZE and MODEL.REINIT_HEAD start from a trained model; set MODEL.WEIGHTS or "
            "STAGE1.CONFIG"
        )
    _seed(cfg.SEED)
    splits = ranks.main_first(lambda: build_splits(cfg.DATA))
    frequency = splits.train.frequency()
    model = _place(build_model(cfg, frequency), cfg, ranks)
    if cfg.MODEL.WEIGHTS:
        saved = load_model(cfg.MODEL.WEIGHTS)
        saved.load_into(model, cfg, reinit_head=cfg.MODEL.REINIT_HEAD)
    rank = (ranks.rank, ranks.world_size)
    loader = build_loader(cfg, splits.train, ranks.device, *rank)
    val = None if splits.val is None else build_evaluation(cfg, splits.val, *rank)
    trainer = Trainer(cfg, model, loader, frequency, ranks, val)
    if resume:
        trainer.resume()
    trainer.train()
    ranks.barrier()
    facts = {
        "data": splits.digests(),
        "train_images": len(splits.train),
        "images_per_second": trainer.images_per_second,
        "train_seconds": trainer.seconds,
        "val_mean_class": trainer.best,
    }
    return score_saved(cfg, ranks, _chosen(cfg), splits.test, facts)


def score_saved(
    cfg: CfgNode,
    ranks: Ranks,
    weights: str = "",
    test: LabelledImages | None = None,
    facts: dict | None = None,
) -> Scores:
    """Test a saved model with METHOD's probabilities; the class counts are those in its file.

    Args:
        weights: the model file; MODEL.WEIGHTS by default.
        test: the test images, read if None.
        facts: what else results.json shall say.

    Raises:
        CheckpointError: the file is damaged or of another model.
        DataError: the test images cannot be used.
    """
    weights = weights or cfg.MODEL.WEIGHTS
    if not weights:
        raise ConfigError("--eval-only tests a trained model; set MODEL.WEIGHTS to its file")
    saved = load_model(weights)
    model = _place(build_model(cfg, saved.frequency), cfg, ranks)
    saved.load_into(model, cfg, method=True)
    if test is None:
        test = build_test(cfg.DATA, saved.frequency.class_names)
    prepare = build_prepare(cfg, ranks.device)
    if hasattr(model.method, "observe") and not int(model.method.num_observed):
        _observe_training(cfg, model, prepare, ranks)
    loader = build_evaluation(cfg, test, ranks.rank, ranks.world_size)
    with autocast(cfg.SOLVER.AMP, ranks.device):
        scores = evaluate(model, loader, prepare, saved.frequency, ranks)
    logger.info("test of %s with %s: %s", weights, cfg.METHOD.NAME, scores.summary())
    if ranks.is_main:
        facts = {"data": {"test": test.digest()}, **(facts or {})}
        _write_results(cfg, weights, scores, saved.config, facts, ranks)
    return scores


def first_stage(cfg: CfgNode) -> CfgNode:
    """The config of the representation stage, on this config's data and seed."""
    first = load_config(cfg.STAGE1.CONFIG, [str(option) for option in cfg.STAGE1.OPTIONS])
    first.DATA, first.SEED, first.SOLVER.AMP = cfg.DATA.clone(), cfg.SEED, cfg.SOLVER.AMP
    first.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, "stage1")
    return first


def _chosen(cfg: CfgNode) -> str:
    name = "model_best.pth" if cfg.DATA.VAL else "model_final.pth"
    return os.path.join(cfg.OUTPUT_DIR, name)


def _place(model: Recognizer, cfg: CfgNode, ranks: Ranks) -> Recognizer:
    format = torch.channels_last if cfg.MODEL.CHANNELS_LAST else torch.contiguous_format
    return model.to(ranks.device, memory_format=format)


def _observe_training(cfg: CfgNode, model: Recognizer, prepare, ranks: Ranks) -> None:
    """A pass over the training images, as at test, for a method that calibrates on them (LogN)."""
    model.eval()
    train = build_splits(cfg.DATA).train
    batches = iter(build_evaluation(cfg, train, ranks.rank, ranks.world_size))
    most = math.ceil(math.ceil(len(train) / ranks.world_size) / cfg.SOLVER.TEST_BATCH_SIZE)
    for _ in range(most):  # ranks observe equally often, the one that has run out observes nothing
        images, _ = next(batches, (None, None))
        if images is None:
            logits = torch.zeros((0, len(train.class_names)), device=ranks.device)
        else:
            with autocast(cfg.SOLVER.AMP, ranks.device):
                logits = model.logits(prepare(images))
        model.method.observe(logits)


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def _write_results(
    cfg: CfgNode, weights: str, scores: Scores, trained: dict, facts: dict, ranks: Ranks
) -> None:
    import torchvision

    solver = trained["SOLVER"]
    content = {
        "test": scores.as_dict(),
        "method": {"name": cfg.METHOD.NAME, **dict(cfg.METHOD.get(cfg.METHOD.NAME, {}))},
        "trained_with": trained["METHOD"]["NAME"],
        "weights": weights,
        "schedule": {
            key.lower(): solver[key] for key in ("EPOCHS", "BATCH_SIZE", "LR", "SCHEDULE")
        },
        "seed": trained["SEED"],
        **facts,
        "ranks": ranks.world_size,
        "device": _device_name(ranks.device),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
        "command": " ".join(sys.argv),
        "config": cfg.dump(),
    }
    path = os.path.join(cfg.OUTPUT_DIR, "results.json")
    write_atomically(path, json.dumps(content, indent=1) + "\n")
    logger.info("results: %s", path)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()} CPU, {torch.get_num_threads()} threads"

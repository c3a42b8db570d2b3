"""One process of a run: train, resume or evaluate, as the command line says."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

from detectron2.config import CfgNode

from ..checkpoint import load_trained_model
from ..user_modules import import_modules
from .lazy import evaluate_lazy, prepare_lazy_training
from .setup import setup
from .trainer import LongTailTrainer


def main(args: Namespace) -> dict | None:
    """What `train_net.py` does in each process; the results of the last evaluation."""
    import_modules(getattr(args, "imports", ()))  # a parser of the user's may lack --import
    lazy = args.config_file.endswith(".py")
    with setup(args) as cfg:
        if args.eval_only:
            return (evaluate_lazy if lazy else _evaluate)(cfg, args.resume)
        train = (prepare_lazy_training if lazy else _prepare_training)(cfg, args.resume)
    return train()


def _evaluate(cfg: CfgNode, resume: bool) -> dict:
    return LongTailTrainer.test(cfg, load_trained_model(cfg, resume=resume))


def _prepare_training(cfg: CfgNode, resume: bool) -> Callable[[], dict | None]:
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    return trainer.train

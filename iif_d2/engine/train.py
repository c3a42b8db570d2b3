"""One process of a run: train, resume or evaluate, as the command line says."""

from __future__ import annotations

from argparse import Namespace

from ..checkpoint import load_trained_model
from .lazy import run_lazy
from .setup import setup
from .trainer import LongTailTrainer


def main(args: Namespace) -> dict:
    """What `train_net.py` does in each process; the results of the last evaluation."""
    cfg = setup(args)
    if args.config_file.endswith(".py"):
        return run_lazy(cfg, args)
    if args.eval_only:
        return LongTailTrainer.test(cfg, load_trained_model(cfg, resume=args.resume))
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()

"""`iif-d2 eval`: what train_net.py --eval-only does."""

from __future__ import annotations

import argparse

from . import train
from .train import add_arguments

__all__ = ["EXAMPLE", "add_arguments", "run"]


EXAMPLE = """iif-d2 eval --config-file output/mine/config.yaml \\
    MODEL.WEIGHTS output/mine/model_final.pth"""


def run(args: argparse.Namespace) -> str | None:
    """Evaluate MODEL.WEIGHTS, or with --resume OUTPUT_DIR's last checkpoint."""
    return train.run(args, eval_only=True)

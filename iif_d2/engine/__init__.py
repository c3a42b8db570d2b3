"""What `train_net.py` stands on."""

from .launch import launch
from .lazy import evaluate_lazy, load_lazy_config, run_lazy
from .setup import setup
from .train import main
from .trainer import LongTailTrainer

__all__ = [
    "LongTailTrainer",
    "evaluate_lazy",
    "launch",
    "load_lazy_config",
    "main",
    "run_lazy",
    "setup",
]

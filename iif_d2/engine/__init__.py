"""What `train_net.py` stands on."""

from .launch import launch
from .lazy import load_lazy_config
from .setup import setup
from .train import main
from .trainer import LongTailTrainer

__all__ = [
    "LongTailTrainer",
    "launch",
    "load_lazy_config",
    "main",
    "setup",
]

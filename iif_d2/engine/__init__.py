"""What `train_net.py` stands on."""

from .launch import launch
from .setup import setup
from .train import main
from .trainer import LongTailTrainer

__all__ = ["LongTailTrainer", "launch", "main", "setup"]

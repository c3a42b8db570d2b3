"""Training and evaluation.

`train_net.py` -> `launch.py` (processes) -> `train.py` (command line) -> `trainer.py`, which takes
`TrainingParts` from a yaml config (`parts.py`) or a `.py` config (`lazy.py`) and adds hooks.
"""

from .launch import launch
from .lazy import load_lazy_config, parts_from_lazy
from .parts import TrainingParts, parts_from_cfg
from .train import main, setup
from .trainer import LongTailTrainer

__all__ = [
    "LongTailTrainer",
    "TrainingParts",
    "launch",
    "load_lazy_config",
    "main",
    "parts_from_cfg",
    "parts_from_lazy",
    "setup",
]

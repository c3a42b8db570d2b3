"""Training and evaluation.

`train_net.py` -> `launch` (processes) -> `main` (command line) -> `LongTailTrainer`, which makes
`TrainingParts` of a yaml config (`parts.py`) or of a `.py` config (`lazy.py`) and adds hooks.
"""

from .launch import launch
from .lazy import load_lazy_config, parts_from_lazy
from .main import main, setup
from .parts import TrainingParts, parts_from_cfg
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

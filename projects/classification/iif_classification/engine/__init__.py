"""Training with exact resume, evaluation over ranks, checkpoints, and the run that joins them."""

from .checkpoint import SavedModel, load_model, save_model
from .distributed import Ranks, launch
from .evaluate import Scores, evaluate
from .run import run, score_saved
from .trainer import Trainer

__all__ = [
    "Ranks",
    "SavedModel",
    "Scores",
    "Trainer",
    "evaluate",
    "launch",
    "load_model",
    "run",
    "save_model",
    "score_saved",
]

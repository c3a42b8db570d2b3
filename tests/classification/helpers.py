"""What the tests of training share."""

import json
import os

import torch
from iif_classification.data import build_loader, build_splits
from iif_classification.engine import Ranks, Trainer
from iif_classification.modeling import build_model

PROJECT = os.path.abspath(os.path.join(__file__, "../../../projects/classification"))


def trainer_of(cfg):
    """A trainer at the start of the run that this config describes."""
    splits = build_splits(cfg.DATA)
    torch.manual_seed(cfg.SEED)
    frequency = splits.train.frequency()
    model = build_model(cfg, frequency)
    loader = build_loader(cfg, splits.train, torch.device("cpu"))
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    return Trainer(cfg, model, loader, frequency, Ranks())


def results_of(cfg):
    """What results.json says."""
    with open(os.path.join(cfg.OUTPUT_DIR, "results.json")) as file:
        return json.load(file)


def weights_of(trained):
    """The model file of the fixture `trained`."""
    return os.path.join(trained[0].OUTPUT_DIR, "model_final.pth")

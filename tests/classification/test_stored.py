"""Files of version 0.1.0 (commit bccf249): a trained model, and the state of the same training
stopped after nine of fourteen steps."""

import os
import shutil
from pathlib import Path

import torch
from iif_classification.engine import load_model

from .helpers import trainer_of

STORED = Path(__file__).parent / "stored"
OPTIONS = ("METHOD.NAME", "LDAM", "METHOD.DEFERRED_FROM", 0.5)


def test_a_stored_model_loads(config):
    saved = load_model(str(STORED / "ldam.pth"))
    trainer = trainer_of(config(*OPTIONS))
    saved.load_into(trainer.model, trainer.cfg, method=True)
    state = trainer.model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in saved.state.items())
    assert saved.frequency.image_count.tolist() == [120, 60, 30, 20, 10, 5]


def test_training_goes_on_from_a_stored_state(config):
    trainer = trainer_of(config(*OPTIONS))
    shutil.copy(STORED / "ldam_stopped.pth", os.path.join(trainer.cfg.OUTPUT_DIR, "last.pth"))
    assert trainer.resume() and (trainer.epoch, trainer.step) == (1, 2)
    trainer.train()
    state = trainer.model.state_dict()
    assert state.pop("method.class_groups").tolist() == [0] * 6  # not of 0.1.0
    wanted = load_model(str(STORED / "ldam.pth")).state
    assert state.keys() == wanted.keys()
    for key, value in state.items():
        torch.testing.assert_close(value, wanted[key], atol=1e-4, rtol=1e-3)

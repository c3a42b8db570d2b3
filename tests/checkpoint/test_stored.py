"""Checkpoints of version 0.1.0 load, predict what they did, and training goes on from them."""

import json
import shutil

import numpy as np
import pytest
import torch

from iif_d2.checkpoint import load_trained_model
from iif_d2.engine import LongTailTrainer

from ..conftest import make_dataset
from .stored.make import (
    HERE,
    LAZY,
    YAML,
    lazy_model,
    prediction,
    train_lazy,
    yaml_config,
)


@pytest.fixture(scope="module", autouse=True)
def _data(dataset_name):
    """The configs name it."""


def assert_predicts(model, name):
    wanted = json.loads((HERE / f"{name}.json").read_text())
    found = prediction(model)
    assert found["classes"] == wanted["classes"]
    np.testing.assert_allclose(found["boxes"], wanted["boxes"], atol=1e-3)
    np.testing.assert_allclose(found["scores"], wanted["scores"], atol=1e-5)
    np.testing.assert_allclose(found["mask_pixels"], wanted["mask_pixels"], atol=4)


@pytest.mark.parametrize("name", YAML)
def test_a_yaml_model_predicts_what_it_did(name, tmp_path):
    cfg = yaml_config(name, tmp_path, "MODEL.WEIGHTS", str(HERE / f"{name}.pth"))
    assert_predicts(load_trained_model(cfg), name)


def test_the_lazy_model_predicts_what_it_did(tmp_path):
    assert_predicts(lazy_model(HERE / f"{LAZY}.pth", tmp_path), LAZY)


def test_the_stored_predictions_tell_models_apart():
    found = [json.loads(path.read_text())["scores"] for path in HERE.glob("*.json")]
    assert len(found) == len(YAML) + 1 and all(len(scores) > 5 for scores in found)
    assert len({tuple(scores) for scores in found}) >= len(found) - 2  # second stages begin alike


@pytest.mark.parametrize("name", ["iif", LAZY])
def test_training_goes_on_from_a_stored_step(name, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(HERE / f"{name}_step2.pth", run / "model_0000001.pth")
    (run / "last_checkpoint").write_text("model_0000001.pth")
    if name == LAZY:
        train_lazy(run, "--resume")
    else:
        trainer = LongTailTrainer(yaml_config(name, run))
        trainer.resume_or_load(resume=True)
        assert trainer.start_iter == 2
        trainer.train()
    ended = torch.load(run / "model_final.pth", weights_only=True)
    wanted = torch.load(HERE / f"{name}.pth", weights_only=True)
    assert ended["iteration"] == wanted["iteration"] == 2
    new = {key for key in ended["model"] if key.endswith(".class_groups")}  # not of 0.1.0
    assert ended["model"].keys() - new == wanted["model"].keys()
    for key, value in wanted["model"].items():
        torch.testing.assert_close(ended["model"][key], value, atol=1e-5, rtol=1e-4)


def test_the_stored_data_set_is_the_one_here(tmp_path):
    """What a stored step goes on with: another data set would train other weights."""
    path, _ = make_dataset(tmp_path)
    counts = torch.load(HERE / "iif.pth", weights_only=True)["model"]
    images = counts["roi_heads.box_predictor.method.num_images"]
    assert len(json.loads(path.read_text())["images"]) == int(images)

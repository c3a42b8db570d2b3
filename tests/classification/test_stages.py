"""Post-process on a trained model, second stages, freezing."""

import os

import numpy as np
import pytest
import torch
from iif_classification.config import load_config
from iif_classification.data import build_splits
from iif_classification.engine import Ranks, load_model, run, score_saved
from iif_classification.engine.trainer import build_prepare
from iif_classification.modeling import build_model

from iif_d2.errors import CheckpointError, ConfigError
from iif_d2.methods import iif_weights

from .helpers import results_of, weights_of


def test_post_process_equals_reweighting_the_trained_logits(trained, tmp_path):
    cfg = trained[0].clone()
    cfg.OUTPUT_DIR = str(tmp_path)
    saved = load_model(weights_of(trained))
    model = build_model(cfg, saved.frequency)
    saved.load_into(model, cfg)
    test = build_splits(cfg.DATA).test.decoded(32)
    prepare = build_prepare(cfg, torch.device("cpu"))
    with torch.no_grad():
        logits = model.eval().logits(prepare(test.pixels))
    count = saved.frequency.image_count
    for method, options, adjusted in (
        ("IIF", {"VARIANT": "raw"}, logits * torch.tensor(iif_weights(saved.frequency, "raw"))),
        ("LogitAdjustment", {"TAU": 2.0}, logits - 2.0 * torch.tensor(np.log(count / count.sum()))),
    ):
        cfg.METHOD.NAME = method
        cfg.METHOD[method].POST_HOC = True
        cfg.METHOD[method].update(options)
        scores = score_saved(cfg, Ranks(), weights_of(trained))
        right = adjusted.argmax(1).numpy() == test.labels
        assert scores.top1 == pytest.approx(100 * right.mean())
        assert results_of(cfg)["method"]["name"] == method
        assert results_of(cfg)["trained_with"] == "Softmax"


def test_logn_observes_the_training_set_before_its_test(trained, tmp_path):
    cfg = trained[0].clone()
    cfg.OUTPUT_DIR, cfg.METHOD.NAME = str(tmp_path), "LogN"
    assert score_saved(cfg, Ranks(), weights_of(trained)).images == 54


@pytest.mark.parametrize("freeze_bn", [False, True])
def test_freezing_really_freezes_and_batchnorm_does_as_stated(trained, config, freeze_bn):
    options = ["MODEL.WEIGHTS", weights_of(trained), "MODEL.FREEZE", "backbone"]
    options += ["MODEL.REINIT_HEAD", True, "MODEL.FREEZE_BN", freeze_bn, "METHOD.NAME", "IIF"]
    cfg = config(*options, "SOLVER.WEIGHT_DECAY", 0.1, "SOLVER.EPOCHS", 1)
    run(cfg, Ranks())
    before, after = (load_model(path).state for path in (
        weights_of(trained), os.path.join(cfg.OUTPUT_DIR, "model_final.pth")
    ))  # fmt: skip
    running = [key for key in before if "running" in key]
    parameters = [key for key in before if "backbone" in key and "bn" not in key]
    affine = [key for key in before if "bn" in key and key.endswith(("weight", "bias"))]
    assert len(running) == 14 and parameters and affine
    assert all(torch.equal(before[key], after[key]) for key in parameters + affine)
    assert all(torch.equal(before[key], after[key]) == freeze_bn for key in running)
    assert not torch.equal(before["classifier.weight"], after["classifier.weight"])


def test_second_stage_trains_the_first_where_no_weights_are_given(rendered, tmp_path):
    first = tmp_path / "first.yaml"
    first.write_text("MODEL: {BACKBONE: resnet8}\nSOLVER: {BATCH_SIZE: 32, WARMUP_EPOCHS: 0.0}\n")
    second = tmp_path / "second.yaml"
    second.write_text(
        "_BASE_: first.yaml\nSTAGE1: {CONFIG: first.yaml}\n"
        "MODEL: {FREEZE: model, FREEZE_BN: True}\nMETHOD: {NAME: DisAlign}\n"
    )
    options = ["DATA.SOURCE", "folder", "DATA.ROOT", rendered, "DATA.PROFILE", "as_is"]
    options += ["SOLVER.EPOCHS", 1, "STAGE1.OPTIONS", "['SOLVER.EPOCHS', 1]"]
    cfg = load_config(str(second), [*options, "OUTPUT_DIR", str(tmp_path / "out")])
    run(cfg, Ranks())
    stages = [load_model(str(tmp_path / "out" / part / "model_final.pth")).state
              for part in ("stage1", "")]  # fmt: skip
    kept = [key for key in stages[0] if key.startswith(("backbone", "classifier"))]
    assert kept and all(torch.equal(stages[0][key], stages[1][key]) for key in kept)
    assert not torch.equal(stages[1]["method.beta"], torch.zeros(6))
    with pytest.raises(ConfigError, match="MODEL.WEIGHTS"):
        run(load_config("", [*options, "MODEL.FREEZE", "backbone"]), Ranks())


def test_model_of_another_shape_is_refused_by_key(trained, config):
    for key, value in (("MODEL.BACKBONE", "resnet8"), ("MODEL.COSINE_SCALE", 30)):
        cfg = config(key, value, "MODEL.WEIGHTS", weights_of(trained))
        with pytest.raises(CheckpointError, match=key):
            score_saved(cfg, Ranks())

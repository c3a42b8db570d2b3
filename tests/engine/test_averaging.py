"""MODEL_EMA: the average is evaluated and saved, and a resumed run is the one never stopped."""

import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from iif_d2.checkpoint import load_trained_model
from iif_d2.engine import LongTailTrainer, load_lazy_config
from iif_d2.engine.averaging import WeightAverage
from iif_d2.errors import CheckpointError, ConfigError
from iif_d2.files.untrusted import load_tensors

from ..stress import runs, sabotage
from .test_parts import LAZY
from .test_resume import terminate, terminate_in_step

MINI = "configs/Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_iif.yaml"
OPTIONS = ("SOLVER.MAX_ITER", "8", "SOLVER.CHECKPOINT_PERIOD", "3", "TEST.EVAL_PERIOD", "4")
EMA = ("MODEL_EMA.ENABLED", "True", "MODEL_EMA.DECAY", "0.8")
COUNTED = ("MODEL.LONG_TAIL.METHOD", "EQLv2")  # which gathers gradients in its buffers
HOOK = WeightAverage.__name__


def test_the_average_is_the_formula_of_weights_and_batch_norms_statistics():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Linear(2, 2))
    model[2].requires_grad_(False)
    model[2].register_buffer("gathered", torch.zeros(2))
    hook = WeightAverage(model, 0.3)
    hook.before_train()
    own = model.state_dict()
    names = {"0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"}
    expected = {name: own[name].clone() for name in names}
    for decay in (1 / 10, 2 / 11, 3 / 12, 0.3):  # (1 + t) / (10 + t), and 4 / 13 is more than 0.3
        for value in own.values():
            value.copy_(torch.randint(-9, 9, value.shape))
        hook.after_step()
        expected = {n: decay * expected[n] + (1 - decay) * own[n] for n in names}
    average = hook.average()
    assert average.keys() == names
    for name in names:
        torch.testing.assert_close(average[name], expected[name])
    before = {name: value.clone() for name, value in own.items()}
    with hook.applied():
        inside = {name: value.clone() for name, value in model.state_dict().items()}
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(inside[name], average.get(name, before[name]))


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """OUTPUT_DIR of a run that was not stopped."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    runs.train_to_end(folder, dataset, *OPTIONS, *EMA, *COUNTED)
    return folder


def test_a_checkpoint_has_the_average_that_was_evaluated(whole, dataset_name, tiny_cfg):
    state = load_tensors(str(whole / "model_final.pth"))
    raw = state["trainer"]["hooks"][HOOK]["weights"]
    differ = {name for name, value in raw.items() if not torch.equal(value, state["model"][name])}
    assert {"roi_heads.box_predictor.cls_score.weight", "backbone.fpn_lateral2.weight"} <= differ
    assert all("method." not in name for name in raw)
    cfg = tiny_cfg(
        "mask_rcnn_R_18_FPN_iif", *COUNTED, "MODEL.WEIGHTS", str(whole / "model_final.pth")
    )
    model = load_trained_model(cfg)
    assert all(torch.equal(model.state_dict()[name], state["model"][name]) for name in raw)
    LongTailTrainer.test(cfg, model)
    tables = [f / "inference" / "results.json" for f in (whole, Path(cfg.OUTPUT_DIR))]
    assert tables[0].read_bytes() == tables[1].read_bytes()


@pytest.mark.parametrize(
    "moment", [partial(terminate_in_step, 5), partial(sabotage.at_image, 3, terminate)],
    ids=["step", "evaluation"],
)  # fmt: skip
def test_a_resumed_run_ends_the_same(whole, dataset, tmp_path, moment):
    """Also where SIGTERM comes in an evaluation, when the average is in the model."""
    options = (*OPTIONS, *EMA, *COUNTED)
    assert runs.train(tmp_path / "out", dataset, *options, sabotage=moment) == 143
    runs.train_to_end(tmp_path / "out", dataset, *options, resume=True)
    runs.assert_same(whole, tmp_path / "out")


def test_a_run_without_averages_is_not_resumed_from_one(whole, tiny_cfg, tmp_path):
    shutil.copytree(whole, tmp_path / "out")
    trainer = LongTailTrainer(tiny_cfg("mask_rcnn_R_18_FPN_iif", *COUNTED))
    with pytest.raises(CheckpointError, match="resume with MODEL_EMA.ENABLED True"):
        trainer.resume_or_load(resume=True)
    other = (*EMA, *COUNTED, "MODEL.BACKBONE.FREEZE_AT", "2")
    trainer = LongTailTrainer(tiny_cfg("mask_rcnn_R_18_FPN_iif", *other))
    with pytest.raises(CheckpointError, match="averages other weights"):
        trainer.resume_or_load(resume=True)


def test_what_cannot_be_averaged_is_refused(tiny_cfg):
    for decay in ("1.0", "-0.1"):
        with pytest.raises(ConfigError, match="MODEL_EMA.DECAY"):
            LongTailTrainer(tiny_cfg("mask_rcnn_R_18_FPN_iif", *EMA[:3], decay))
    with pytest.raises(ConfigError, match="PRECISE_BN"):
        LongTailTrainer(tiny_cfg("mask_rcnn_R_18_FPN_iif", *EMA, "TEST.PRECISE_BN.ENABLED", "True"))


def test_a_python_config_is_checked_too(dataset_name, tmp_path):
    (tmp_path / "lazy.py").write_text(LAZY.replace("STEPS", "3"))
    options = [f"train.output_dir={tmp_path}", "+train.model_ema.enabled=True"]
    cfg = load_lazy_config(str(tmp_path / "lazy.py"), [*options, "+train.model_ema.decay=often"])
    with pytest.raises(ConfigError, match="train.model_ema.decay"):
        LongTailTrainer(cfg)

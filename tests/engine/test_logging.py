"""What training writes: TensorBoard, other loggers, and the classifier by group."""

import json
import sys
import types

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from iif_d2.engine import LongTailTrainer
from iif_d2.errors import ConfigError, UnknownNameError

METRICS = {"bbox/APr", "bbox/APc", "bbox/APf", "segm/APr", "total_loss"}
STATS = {f"{name}_{g}" for name in ("weight_norm", "gradient_share") for g in "rcf"}


def train(cfg):
    torch.manual_seed(0)
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer


def last_metrics(trainer):
    merged = {}
    with open(f"{trainer.cfg.OUTPUT_DIR}/metrics.json") as file:
        for line in file:
            merged.update(json.loads(line))
    return merged


def stub(monkeypatch, name, calls):
    """A library that only writes down what it is told."""
    module = types.ModuleType(name)
    run = types.SimpleNamespace(
        log=lambda values, step: calls.append((step, values)), finish=lambda: calls.append("end")
    )
    module.init = lambda **options: calls.append(options) or run
    module.start_run = lambda **options: calls.append(options)
    module.log_text = lambda text, path: calls.append({path: text})
    module.log_metrics = run.log
    module.end_run = run.finish
    monkeypatch.setitem(sys.modules, name, module)


def test_scalars_reach_every_logger(tiny_cfg, monkeypatch):
    calls = {"wandb": [], "mlflow": []}
    for name, heard in calls.items():
        stub(monkeypatch, name, heard)
    trainer = train(
        tiny_cfg("mask_rcnn_R_18_FPN_iif", "LOG.WRITERS", "('wandb', 'mlflow')",
                 "LOG.CLASSIFIER_PERIOD", "1")
    )  # fmt: skip
    wanted = METRICS | {f"classifier/{name}" for name in STATS}
    events = EventAccumulator(trainer.cfg.OUTPUT_DIR).Reload()
    assert wanted <= set(events.Tags()["scalars"])
    metrics = last_metrics(trainer)
    assert wanted <= metrics.keys()
    for name, heard in calls.items():
        values = {}
        for call in heard:
            if isinstance(call, tuple):
                values.update(call[1])
        assert wanted <= values.keys(), name
        assert values["total_loss"] == metrics["total_loss"] and heard[-1] == "end"
    assert calls["wandb"][0]["name"] == "out" and calls["wandb"][0]["config"]["MODEL"]["MASK_ON"]
    assert "MASK_ON: true" in calls["mlflow"][1]["config.yaml"].replace("True", "true")


def test_statistics_are_those_of_the_rows(tiny_cfg):
    """Of four classes "square" to "bar" are rare here and "never" too: the rest is background."""
    trainer = train(
        tiny_cfg(
            "cascade_mask_rcnn_R_18_FPN_iif", "LOG.CLASSIFIER_PERIOD", "1", "DATASETS.TEST", "()"
        )
    )
    found = last_metrics(trainer)
    for stage, predictor in enumerate(trainer.model.roi_heads.box_predictor):
        layer = predictor.cls_score
        norms, gradients = layer.weight.norm(dim=1), layer.weight.grad.norm(dim=1)
        prefix = f"classifier/stage{stage}"
        assert found[f"{prefix}/weight_norm_r"] == pytest.approx(norms[:4].mean().item(), rel=1e-5)
        share = (gradients[:4].sum() / gradients.sum()).item()
        assert 0 < share < 1
        assert found[f"{prefix}/gradient_share_r"] == pytest.approx(share, rel=1e-5)
        assert found[f"{prefix}/gradient_share_f"] == 0


def test_statistics_can_be_off(tiny_cfg):
    overrides = ("LOG.CLASSIFIER_PERIOD", "0", "DATASETS.TEST", "()", "SOLVER.MAX_ITER", "1")
    found = last_metrics(train(tiny_cfg("faster_rcnn_R_18_FPN_iif", *overrides)))
    assert "total_loss" in found and not any(key.startswith("classifier") for key in found)


def test_loggers_that_are_not_there_are_named(tiny_cfg, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="wandb, which is not installed: pip install wandb"):
        LongTailTrainer(tiny_cfg("faster_rcnn_R_18_FPN_iif", "LOG.WRITERS", "('wandb',)"))
    with pytest.raises(UnknownNameError, match="unknown LOG.WRITERS 'x'; known: wandb, mlflow"):
        LongTailTrainer(tiny_cfg("faster_rcnn_R_18_FPN_iif", "LOG.WRITERS", "('x',)"))

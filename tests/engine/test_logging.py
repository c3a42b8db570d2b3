"""What training writes: scalars in TensorBoard and metrics.json, and the classifier by group."""

import json

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from iif_d2.config import load_config
from iif_d2.engine import LongTailTrainer

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


def test_scalars_reach_tensorboard_and_metrics(tiny_cfg):
    trainer = train(tiny_cfg("mask_rcnn_R_18_FPN_iif", "LOG.CLASSIFIER_PERIOD", "1"))
    wanted = METRICS | {f"classifier/{name}" for name in STATS}
    events = EventAccumulator(trainer.cfg.OUTPUT_DIR).Reload()
    assert wanted <= set(events.Tags()["scalars"])
    assert wanted <= last_metrics(trainer).keys()


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


def test_a_saved_config_of_an_earlier_version_still_loads(tiny_cfg, tmp_path):
    """It names LOG.WRITERS, which is gone."""
    saved = yaml.safe_load(tiny_cfg("faster_rcnn_R_18_FPN_iif").dump())
    saved["LOG"]["WRITERS"] = []
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(saved))
    cfg = load_config(str(tmp_path / "config.yaml"), ["LOG.WRITERS", "('wandb',)"])
    del saved["LOG"]["WRITERS"]
    assert yaml.safe_load(cfg.dump()) == saved

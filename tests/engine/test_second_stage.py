"""DisAlign and LOS learn and LogN observes over a frozen model, from the command line's trainer."""

from __future__ import annotations

import json

import pytest
import torch

from iif_d2.engine import LongTailTrainer
from iif_d2.errors import ConfigError


@pytest.fixture(scope="module")
def trained(dataset_name, tmp_path_factory):
    """A softmax model's checkpoint, after two steps."""
    from iif_d2.config import load_config

    from ..conftest import TINY

    out = tmp_path_factory.mktemp("softmax")
    config = "configs/Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_softmax.yaml"
    trainer = LongTailTrainer(load_config(config, [*TINY, "OUTPUT_DIR", str(out)]))
    trainer.train()
    return str(out / "model_final.pth")


def train(cfg, resume=False):
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume)
    trainer.train()
    return trainer


def weights(path):
    return torch.load(path, weights_only=False)["model"]


@pytest.mark.parametrize("head", ["mask_rcnn_R_18_FPN_softmax", "cascade_mask_rcnn_R_18_FPN_iif"])
def test_disalign_learns_its_own_parameters_only(head, trained, tiny_cfg, tmp_path):
    options = ("MODEL.LONG_TAIL.METHOD", "DisAlign", "MODEL.WEIGHTS", trained)
    trainer = train(tiny_cfg(head, *options, "SOLVER.MAX_ITER", "3", "SOLVER.BASE_LR", "0.1"))
    after, before = weights(tmp_path / "out" / "model_final.pth"), weights(trained)
    own = {key for key in after if ".method." in key}
    assert {key.rpartition(".")[2] for key in own} >= {"alpha", "beta", "confidence_weight"}
    if not head.startswith("cascade"):  # whose box heads the softmax model does not have
        for key in set(after) - own:
            assert torch.equal(after[key], before[key]), key
    learnt = dict(trainer.model.named_parameters())
    assert {key for key, p in learnt.items() if p.requires_grad} == own & set(learnt)
    for key in own:
        if key.endswith(".alpha"):
            assert not torch.equal(after[key], torch.ones_like(after[key])), key
    results = json.loads((tmp_path / "out" / "inference" / "results.json").read_text())
    assert "APr" in results["tiny_lvis"]["bbox"]


@pytest.mark.parametrize("classifier", ["linear", "cosine"])
def test_los_learns_the_classifier_only(classifier, trained, tiny_cfg, tmp_path):
    options = ("MODEL.LONG_TAIL.METHOD", "LOS", "MODEL.WEIGHTS", trained)
    options += ("MODEL.LONG_TAIL.CLASSIFIER", classifier, "SOLVER.BASE_LR", "0.1")
    trainer = train(tiny_cfg("mask_rcnn_R_18_FPN_softmax", *options))
    after, before = weights(tmp_path / "out" / "model_final.pth"), weights(trained)
    changed = {key for key in before if not torch.equal(after[key], before[key])}
    own = {f"roi_heads.box_predictor.cls_score.{name}" for name in ("weight", "bias")}
    assert changed == own
    learns = {key for key, p in trainer.model.named_parameters() if p.requires_grad}
    assert learns == own


def test_logn_observes_every_sampled_roi_and_changes_nothing(trained, tiny_cfg, tmp_path):
    options = ("MODEL.LONG_TAIL.METHOD", "LogN", "MODEL.WEIGHTS", trained)
    shown = []

    def watch(module, args, logits):
        if module.training:
            shown.append(logits.detach())

    cfg = tiny_cfg("mask_rcnn_R_18_FPN_softmax", *options, "SOLVER.MAX_ITER", "3")
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(False)
    trainer.model.roi_heads.box_predictor.method.register_forward_hook(watch)
    trainer.train()
    after, before = weights(tmp_path / "out" / "model_final.pth"), weights(trained)
    for key, value in before.items():
        assert torch.equal(after[key], value), key
    seen = torch.cat(shown)[:, :4].double()
    prefix = "roi_heads.box_predictor.method."
    assert int(after[prefix + "num_observed"]) == len(seen) > 3
    torch.testing.assert_close(after[prefix + "mean"], seen.mean(dim=0))
    # going on where it was stopped observes the rest, not the same again
    longer = tiny_cfg("mask_rcnn_R_18_FPN_softmax", *options, "SOLVER.MAX_ITER", "4")
    resumed = train(longer, resume=True).model.roi_heads.box_predictor.method
    assert len(seen) < int(resumed.num_observed) <= len(seen) * 4 // 3 + 16
    # a new pass over a model that has been through one forgets that one
    weights_of_logn = ("MODEL.WEIGHTS", str(tmp_path / "out" / "model_final.pth"))
    again = LongTailTrainer(tiny_cfg("mask_rcnn_R_18_FPN_softmax", *options, *weights_of_logn))
    again.resume_or_load(False)
    assert not again.model.roi_heads.box_predictor.method.num_observed


@pytest.mark.parametrize("method", ["DisAlign", "LogN", "LOS"])
def test_without_a_model_to_stand_on_it_says_so(method, tiny_cfg):
    trainer = LongTailTrainer(tiny_cfg("mask_rcnn_R_18_FPN_iif", "MODEL.LONG_TAIL.METHOD", method))
    with pytest.raises(ConfigError, match=f"{method} is a second stage.*set MODEL.WEIGHTS"):
        trainer.resume_or_load(resume=False)

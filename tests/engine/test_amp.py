"""Steps that overflow under AMP are left out; only one after the other is a divergence.

Detectron2's AMP step asks for a GPU. Here it gets torch's scaler for CPUs instead and float32 in
place of the halves, so what is shown is who looks at the gradients when, not half precision.
"""

import contextlib
import types

import pytest
import torch
from detectron2.engine import train_loop

from iif_d2.engine import LongTailTrainer
from iif_d2.errors import DivergedError


@pytest.fixture(params=["SGD", "ADAMW"])
def trainer(tiny_cfg, request, monkeypatch):
    torch.manual_seed(0)
    cfg = tiny_cfg(
        "mask_rcnn_R_18_FPN_iif", "SOLVER.OPTIMIZER", request.param, "SOLVER.MAX_ITER", "5",
        "SOLVER.CHECKPOINT_PERIOD", "2", "DATASETS.TEST", "()",
    ).clone()  # fmt: skip
    cfg.defrost()
    cfg.SOLVER.AMP.ENABLED = True  # which the config leaves off on a CPU
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=False)
    monkeypatch.setattr(train_loop, "torch", TorchWithGpu())
    monkeypatch.setattr(torch.cuda.amp, "autocast", lambda **_: contextlib.nullcontext())
    return trainer


class TorchWithGpu:
    """torch for those who only ask whether there is a GPU."""

    cuda = types.SimpleNamespace(is_available=lambda: True)

    def __getattr__(self, name):
        return getattr(torch, name)


def scale(trainer, initial):
    """Have the trainer use a scaler that goes down fast; the iterations it steps in."""
    trainer._trainer.grad_scaler = torch.amp.GradScaler("cpu", initial, backoff_factor=2.0**-20)
    stepped = set()  # older torch asks twice where Detectron2 clips
    trainer.optimizer.register_step_pre_hook(lambda *_: stepped.add(trainer.iter))
    return stepped


def weights(trainer):
    return torch.cat([p.detach().flatten().clone() for p in trainer.model.parameters()])


def test_overflow_leaves_steps_out_and_is_no_divergence(trainer):
    before, stepped = weights(trainer), scale(trainer, 2.0**127)
    weight = trainer.model.roi_heads.box_predictor.cls_score.weight
    weight.register_hook(lambda grad: grad * 2.0**30)  # float32 has more room than halves
    trainer.train()
    first = min(stepped)
    assert stepped == set(range(first, 5)) and 0 < first < 4
    after = weights(trainer)
    assert after.isfinite().all() and not torch.equal(before, after)
    state = torch.load(trainer.checkpointer.get_checkpoint_file(), weights_only=True)
    saved = state["trainer"]["_trainer"]["grad_scaler"]["scale"]
    assert saved == 2.0 ** (127 - 20 * first)


def test_overflow_without_end_is_a_divergence(trainer):
    before, stepped = weights(trainer), scale(trainer, 65_536.0)
    weight = trainer.model.roi_heads.box_predictor.cls_score.weight
    weight.register_hook(lambda grad: grad * float("inf"))
    with pytest.raises(DivergedError, match="at iteration 1: .* one step after the other") as error:
        trainer.train()
    assert str(error.value).count("train2017/") == 2
    assert not stepped and torch.equal(before, weights(trainer))


def test_a_loss_that_is_nan_is_a_divergence(trainer):
    scale(trainer, 1.0)
    with torch.no_grad():
        trainer.model.roi_heads.box_predictor.cls_score.bias[0] = float("nan")
    with pytest.raises(DivergedError, match="at iteration 0: Loss became infinite or NaN"):
        trainer.train()

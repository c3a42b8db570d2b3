"""NaN ends training with the iteration, the images and the last good checkpoint named."""

import pytest
import torch

from iif_d2.engine import LongTailTrainer
from iif_d2.errors import DivergedError


@pytest.fixture
def trainer(tiny_cfg):
    torch.manual_seed(0)
    cfg = tiny_cfg(
        "mask_rcnn_R_18_FPN_iif",
        "SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "1", "DATASETS.TEST", "()",
    )  # fmt: skip
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=False)
    return trainer


def break_in(trainer, iteration, what):
    step = trainer._trainer.run_step

    def run_step():
        if trainer.iter == iteration:
            what()
        step()

    trainer._trainer.run_step = run_step


def poison(trainer):
    with torch.no_grad():
        trainer.model.roi_heads.box_predictor.cls_score.bias[0] = float("nan")


def bad_gradient(trainer):
    weight = trainer.model.roi_heads.box_predictor.cls_score.weight
    weight.register_hook(lambda grad: grad * float("inf"))


@pytest.mark.parametrize("how, what", [
    (poison, "Loss became infinite or NaN"),
    (bad_gradient, "gradient is NaN or infinite: roi_heads.box_predictor.cls_score.weight"),
])  # fmt: skip
def test_nan_stops_training_before_it_is_saved(trainer, how, what):
    break_in(trainer, 2, lambda: how(trainer))
    with pytest.raises(DivergedError, match=what) as error:
        trainer.train()
    message = str(error.value)
    assert "at iteration 2" in message and message.count("train2017/") == 2
    last = trainer.checkpointer.get_checkpoint_file()
    assert f"Last good checkpoint: {last}" in message and last.endswith("model_0000001.pth")
    state = torch.load(last, weights_only=True)["model"]
    assert all(value.isfinite().all() for value in state.values())


def test_weights_that_are_nan_are_not_saved(trainer):
    poison(trainer)
    with pytest.raises(DivergedError, match="cls_score.bias is NaN or infinite"):
        trainer.checkpointer.save("model_0000009", iteration=9)
    assert not trainer.checkpointer.has_checkpoint()

"""SOLVER.ACCUMULATE: a batch in parts steps as the whole one does, up to what the losses divide by."""

import contextlib
import itertools

import pytest
import torch
from detectron2.utils.events import EventStorage

from iif_d2.engine import LongTailTrainer
from iif_d2.engine.accumulation import AccumulatingAMPTrainer
from iif_d2.errors import ConfigError

MINI = "mask_rcnn_R_18_FPN_iif"
# BatchNorm apart, all is the same for each image: every anchor and proposal is taken.
SAME = (
    "MODEL.RESNETS.NORM", "FrozenBN", "MODEL.FPN.NORM", "", "SOLVER.OPTIMIZER", "SGD",
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE", "100000", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "1000",
    "SOLVER.IMS_PER_BATCH", "4", "SOLVER.CLIP_GRADIENTS.ENABLED", "False", "DATASETS.TEST", "()",
)  # fmt: skip


@pytest.fixture
def make(tiny_cfg):
    """A trainer that steps on these images, of equal weights each time."""

    def make(images, parts, losses=None):
        torch.manual_seed(0)
        trainer = LongTailTrainer(tiny_cfg(MINI, *SAME, "SOLVER.ACCUMULATE", str(parts)))
        if losses:
            forward = trainer.model.forward
            trainer.model.forward = lambda batch: keep(forward(batch), losses)
        trainer._trainer._data_loader_iter_obj = iter([images])
        torch.manual_seed(3)
        return trainer

    return make


def keep(found, names):
    return {name: found[name] for name in names}


@pytest.fixture
def images(make):
    batch = next(iter(make([], 1).data_loader))
    assert len(batch) == 4 and len({image["image_id"] for image in batch}) == 4
    return batch


def gradients(trainer):
    """Of the batch that waits."""
    with EventStorage():
        trainer.iter = 0
        trainer.run_step()
    return {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}


def assert_close(one, other):
    assert one.keys() == other.keys()
    for name, gradient in one.items():
        torch.testing.assert_close(gradient, other[name], rtol=1e-4, atol=1e-6, msg=name)


def test_the_gradient_is_the_mean_of_the_parts(make, images):
    by_parts = gradients(make(images, 2))
    trainer = make(images, 1)
    with EventStorage():
        for part in (images[:2], images[2:]):
            (sum(trainer.model(part).values()) / 2).backward()
    for name, parameter in trainer.model.named_parameters():
        if parameter.grad is not None:
            assert torch.equal(parameter.grad, by_parts[name]), name


def test_what_divides_by_images_is_the_whole_batchs(make, images):
    rpn = ("loss_rpn_cls", "loss_rpn_loc")
    assert_close(gradients(make(images, 4, losses=rpn)), gradients(make(images, 1, losses=rpn)))


def test_parts_with_as_many_regions_and_objects_are_the_whole_batch(make, images):
    alike = images[:2] * 2
    assert_close(gradients(make(alike, 2)), gradients(make(alike, 1)))


def test_in_mixed_precision_the_scaler_sees_the_sum(make, images):
    wanted = gradients(make(images, 2))
    trainer = make(images, 2)
    step = AccumulatingAMPTrainer(trainer.model, trainer.data_loader, trainer.optimizer, 2)
    step.grad_scaler = torch.amp.GradScaler("cpu", 1024.0)
    step._precision = contextlib.nullcontext  # of halves a CPU has other ones
    step._data_loader_iter_obj, trainer._trainer = iter([images, images]), step
    before = weights(trainer)
    torch.manual_seed(3)
    assert_close(gradients(trainer), wanted)
    after = weights(trainer)
    assert not torch.equal(before, after)
    trainer.optimizer.zero_grad()
    bias = trainer.model.roi_heads.box_predictor.cls_score.bias
    parts = itertools.count()
    bias.register_hook(lambda grad: grad * (float("inf") if next(parts) == 0 else 1.0))
    gradients(trainer)
    assert next(parts) == 2 and step.grad_scaler.get_scale() == 512
    assert torch.equal(after, weights(trainer))  # the first part alone has overflown


def weights(trainer):
    return torch.cat([p.detach().flatten().clone() for p in trainer.model.parameters()])


@pytest.mark.parametrize("parts", ["3", "0", "8"])
def test_parts_that_do_not_divide_a_batch_are_refused(tiny_cfg, parts):
    with pytest.raises(ConfigError, match=f"ACCUMULATE .* is {parts}, and a process has 4 images"):
        LongTailTrainer(tiny_cfg(MINI, *SAME, "SOLVER.ACCUMULATE", parts))

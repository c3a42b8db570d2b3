"""`apply_method` on Detectron2's RetinaNet and FCOS, with plain Detectron2 as the oracle."""

import copy

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.modeling.meta_arch.retinanet import RetinaNetHead
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from iif_d2 import ClassFrequency, apply_method, count_class_frequency, fold_checkpoint
from iif_d2.checkpoint import LongTailCheckpointer
from iif_d2.engine import LongTailTrainer
from iif_d2.errors import ConfigError
from iif_d2.methods import METHOD_REGISTRY, build_method
from iif_d2.modeling import LongTailDenseHeadMixin

CLASSES = 5
RETINANET = [
    "MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.DEVICE", "cpu",
    "MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone", "MODEL.BACKBONE.FREEZE_AT", "0",
    "MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64",
    "MODEL.RESNETS.OUT_FEATURES", "['res3', 'res4', 'res5']",
    "MODEL.FPN.IN_FEATURES", "['res3', 'res4', 'res5']", "MODEL.FPN.OUT_CHANNELS", "16",
    "MODEL.ANCHOR_GENERATOR.SIZES", "[[32], [64], [128], [256], [512]]",
    "MODEL.RETINANET.NUM_CLASSES", str(CLASSES), "MODEL.RETINANET.NUM_CONVS", "1",
    "MODEL.RETINANET.SCORE_THRESH_TEST", "0.0",
]  # fmt: skip


@pytest.fixture(params=["RetinaNet", "FCOS"])
def model(request):
    torch.manual_seed(0)
    cfg = get_cfg()
    cfg.merge_from_list(RETINANET)
    model = build_model(cfg)
    if request.param == "FCOS":
        fcos = pytest.importorskip("detectron2.modeling.meta_arch.fcos")
        features = ["p3", "p4", "p5", "p6", "p7"]
        shapes = [model.backbone.output_shape()[name] for name in features]
        model = fcos.FCOS(
            backbone=model.backbone,
            head=fcos.FCOSHead(input_shape=shapes, num_classes=CLASSES, conv_dims=[16]),
            head_in_features=features, num_classes=CLASSES, test_score_thresh=0.0,
            pixel_mean=[110.0] * 3, pixel_std=[60.0] * 3,
        )  # fmt: skip
    nn.init.normal_(model.head.cls_score.weight, std=0.3)
    return model.eval()


@pytest.fixture
def frequency():
    names, dimension = ("a", "b", "c", "d", "e"), [1.9, 1.5, 1.2, 1.0, 1.0]
    return ClassFrequency(names, [90, 40, 10, 1, 0], [200, 40, 12, 3, 0], 100, dimension=dimension)


def inputs():
    draws = torch.Generator().manual_seed(3)
    instances = Instances((64, 64))
    instances.gt_boxes = Boxes(torch.tensor([[8.0, 8, 40, 44]]))
    instances.gt_classes = torch.tensor([2])
    image = torch.randint(0, 255, (3, 64, 64), generator=draws).float()
    return [{"image": image, "instances": instances, "height": 64, "width": 64}]


@torch.no_grad()
def found(model):
    return model.eval()(inputs())[0]["instances"]


def same(one, other, tolerance=0.0):
    assert len(one) == len(other) > 20
    torch.testing.assert_close(one.scores, other.scores, rtol=tolerance, atol=tolerance)
    assert torch.equal(one.pred_classes, other.pred_classes)
    torch.testing.assert_close(one.pred_boxes.tensor, other.pred_boxes.tensor)


@torch.no_grad()
def scores(model):
    """sigma of the logits that the head gives, (R, C), of all levels."""
    features = model.backbone(model.preprocess_image(inputs()).tensor)
    levels = model.head([features[name] for name in model.head_in_features])[0]
    rows = [level[0].view(-1, CLASSES, level[0][0].numel()).transpose(1, 2) for level in levels]
    return torch.cat([row.reshape(-1, CLASSES) for row in rows]).sigmoid()


@pytest.mark.parametrize("name", ["Softmax", "Sigmoid"])
def test_methods_that_change_nothing_leave_detectron2s_detections(model, frequency, name):
    plain, keys = found(model), set(model.state_dict())
    assert apply_method(model, build_method(name, frequency)) is model
    assert isinstance(model.head, LongTailDenseHeadMixin)
    assert isinstance(model.head, RetinaNetHead) and set(model.state_dict()) == keys
    same(found(model), plain)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


SHIFTS = {
    "NorCal": ({"gamma": 0.5}, [-0.5 * np.log(n) for n in (90, 40, 10, 1, 1)]),
    "LogitAdjustment": ({"post_hoc": True}, [-np.log(n / 141) for n in (90, 40, 10, 1, 1)]),
}


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_is_of_the_logit_against_a_background_of_logit_0(model, frequency, name):
    options, shift = SHIFTS[name]
    logits = torch.logit(scores(model).double()).numpy()
    apply_method(model, build_method(name, frequency, **options))
    np.testing.assert_allclose(scores(model), sigmoid(logits + shift), rtol=2e-4, atol=1e-7)


def test_fracals_score_is_the_product_of_two_sigmoids(model, frequency):
    logits = torch.logit(scores(model).double())
    method = build_method("FRACALSigmoid", frequency)
    wanted = logits.sigmoid() * (logits + method.shift).sigmoid()
    apply_method(model, method)
    torch.testing.assert_close(scores(model).double(), wanted, rtol=2e-4, atol=1e-7)


def test_training_is_detectron2s_and_the_method_travels_in_the_checkpoint(
    model, frequency, tmp_path
):
    plain = copy.deepcopy(model)
    apply_method(model, build_method("NorCal", frequency))
    totals = []
    for _ in range(2):
        with EventStorage():
            losses = [each.train()(inputs()) for each in (plain, model)]
        for each, of in zip((plain, model), losses):
            each.zero_grad()
            sum(of.values()).backward()
            with torch.no_grad():
                for parameter in each.parameters():
                    parameter -= 1e-3 * parameter.grad / (1 + parameter.grad.norm())
        assert losses[0].keys() == losses[1].keys()
        for name, loss in losses[0].items():  # of which Detectron2's jit rounds each as it likes
            torch.testing.assert_close(losses[1][name], loss, rtol=1e-4, atol=1e-6)
        totals.append(float(sum(losses[1].values())))
    assert abs(totals[1] / totals[0] - 1) > 1e-3
    LongTailCheckpointer(model, str(tmp_path)).save("trained")
    other = copy.deepcopy(plain)
    counts = ClassFrequency(frequency.class_names, [1, 2, 3, 4, 5], None, 9)
    apply_method(other, build_method("NorCal", counts))
    LongTailCheckpointer(other).load(str(tmp_path / "trained.pth"))
    same(found(other), found(model))


def test_a_folded_model_is_plain_detectron2s(model, frequency):
    plain = copy.deepcopy(model)
    apply_method(model, build_method("NorCal", frequency))
    folded = fold_checkpoint(model)
    assert folded["folded"] == {"method": "NorCal", "config": {}}
    plain.load_state_dict(folded["model"])
    same(found(plain), found(model), tolerance=1e-5)
    apply_method(model, build_method("FRACALSigmoid", frequency))
    with pytest.raises(ConfigError, match="the product of two sigmoids"):
        fold_checkpoint(model)


TAKEN = {"Softmax", "Sigmoid", "NorCal", "FRACAL", "FRACALSigmoid"}
FACTOR, LOSS = "a factor above 1 of a sigmoid's logit", "it acts by its own loss"


def test_what_is_no_rule_for_such_a_head_is_refused_with_the_reason(model, frequency):
    reasons = {"IIF": FACTOR, "LogN": "it learns over", "DisAlign": "it learns over"}
    reasons |= {"LOS": "it learns over", "Calibrated": FACTOR}
    for name, kind in METHOD_REGISTRY:
        if not kind.supports_background:
            continue
        method = build_method(name, frequency)
        if name in TAKEN:
            apply_method(model, method)
            continue
        with pytest.raises(ConfigError, match=f"{name} is not for the head .*: .*") as error:
            apply_method(model, method)
        assert reasons.get(name, LOSS) in str(error.value)
    for name, options, reason in [
        ("IIF", {"post_hoc": True}, FACTOR),
        ("NorCal", {"mode": "logits"}, FACTOR),
        ("NorCal", {"mode": "probs", "renorm": False}, "do not sum to 1"),
    ]:
        with pytest.raises(ConfigError, match=reason):
            apply_method(model, build_method(name, frequency, **options))
    fewer = ClassFrequency(("a", "b"), [1, 2], None, 9)
    with pytest.raises(ConfigError, match="has 5 classes, the method 2"):
        apply_method(model, build_method("NorCal", fewer))


def test_the_trainer_trains_and_evaluates_a_retinanet(tiny_cfg, dataset_name):
    class Own(LongTailTrainer):
        @classmethod
        def build_model(cls, cfg):
            counts = count_class_frequency(dataset_name)
            return apply_method(super().build_model(cfg), build_method("NorCal", counts))

    # ROI heads, which it does not have, may say another number.
    options = [*RETINANET, "MODEL.ROI_HEADS.NUM_CLASSES", "80", "MODEL.MASK_ON", "False"]
    with pytest.raises(ConfigError, match="MODEL.RETINANET.NUM_CLASSES is 5, but .* has 4"):
        Own(tiny_cfg("mask_rcnn_R_18_FPN_iif", *options, "MODEL.RETINANET.NUM_CLASSES", "5"))
    options += ["MODEL.RETINANET.NUM_CLASSES", "4"]
    options += ["MODEL.LONG_TAIL.METHOD", "Softmax", "MODEL_EMA.ENABLED", "True"]
    cfg = tiny_cfg("mask_rcnn_R_18_FPN_iif", *options, "SOLVER.ACCUMULATE", "2")
    trainer = Own(cfg)
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    assert results.keys() == {"bbox"} and results["bbox"]["AP"] >= 0
    saved = torch.load(trainer.checkpointer.get_checkpoint_file(), weights_only=True)
    assert saved["methods"] == {"head.method": {"name": "NorCal", "reads": "sigmoid"}}

"""Heads that compute one class against Detectron2's own, which compute all and are the oracle."""

import copy
import itertools

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads import FastRCNNOutputLayers, MaskRCNNConvUpsampleHead
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from torch import nn

from iif_d2 import apply_class_specific, apply_method
from iif_d2.errors import ConfigError
from iif_d2.methods import build_method
from iif_d2.modeling import (
    ClassSpecificMasks,
    ClassSpecificOutputLayers,
    LongTailOutputLayers,
    NormedMaskHead,
    class_specific,
)

from .test_roi_heads import KINDS

C = 5
SIZE = (40, 40)


def instances(classes, training, seed=0):
    """One image's regions, each with a class: labelled in training, else predicted."""
    draws = torch.Generator().manual_seed(seed + len(classes))
    corner = torch.rand(len(classes), 2, generator=draws) * 15
    boxes = Boxes(torch.cat([corner, corner + 20], dim=1))
    result, labels = Instances(SIZE), torch.tensor(classes, dtype=torch.int64)
    if training:
        polygons = [[[x, y, x + 12, y, x + 12, y + 15, x, y + 15]] for x, y in corner.tolist()]
        result.proposal_boxes, result.gt_boxes, result.gt_classes = boxes, boxes.clone(), labels
        result.gt_masks = PolygonMasks(polygons)
    else:
        result.pred_boxes, result.pred_classes = boxes, labels
    return result


def run(head, x, images, training):
    """Losses and their gradients and scalars, or masks."""
    head.train(training).zero_grad()
    x = x.clone().requires_grad_()
    if not training:
        with torch.no_grad():
            return [image.pred_masks for image in head(x, copy.deepcopy(images))]
    with EventStorage() as storage:
        (loss,) = head(x, images).values()
    loss.backward()
    # Each parameter has one, whatever the batch: DDP waits for all.
    gradients = [p.grad.clone() for p in head.parameters()]
    scalars = {name: value for name, (value, _) in storage.latest().items()}
    return [loss.detach(), x.grad, *gradients], scalars


def mask_heads(kind, num_classes=C, **changes):
    torch.manual_seed(0)
    plain = kind(ShapeSpec(channels=3), num_classes=num_classes, conv_dims=[6, 4], **changes)
    nn.init.normal_(plain.predictor.weight)
    nn.init.normal_(plain.predictor.bias)
    return plain, apply_class_specific(copy.deepcopy(plain))


@pytest.mark.parametrize("kind", [MaskRCNNConvUpsampleHead, NormedMaskHead])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "classes", [[[1, 4, 1], [0, 2]], [[], [3]], [[2, 2], []], [[], []], [[0]]], ids=str
)
def test_masks_are_those_of_all_classes(kind, training, classes):
    plain, ours = mask_heads(kind, loss_weight=0.7)
    assert isinstance(ours, ClassSpecificMasks) and isinstance(ours, kind)
    assert list(ours.state_dict()) == list(plain.state_dict())
    images = [instances(labels, training) for labels in classes]
    x = torch.randn(sum(map(len, classes)), 3, 7, 7)
    found, wanted = (run(head, x, images, training) for head in (ours, plain))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [MaskRCNNConvUpsampleHead, NormedMaskHead])
@pytest.mark.parametrize("training", [True, False])
def test_masks_in_half_precision(kind, training):
    plain, ours = mask_heads(kind)
    images = [instances([1, 4, 0, 0], training)]
    x = torch.randn(4, 3, 7, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, wanted = (run(head, x, images, training) for head in (ours, plain))
    found, wanted = (result[0] if training else result for result in (found, wanted))
    assert [a.dtype for a in found] == [b.dtype for b in wanted]
    torch.testing.assert_close(found, wanted, rtol=2e-2, atol=2e-2)  # bfloat16 has 8 bits


def test_the_masks_of_other_classes_are_not_computed(monkeypatch):
    seen = []

    def spy(x, weight, bias, classes):
        seen.append(classes.tolist())
        return original(x, weight, bias, classes)

    original = class_specific.of_classes
    monkeypatch.setattr(class_specific, "of_classes", spy)
    x, images = torch.randn(2, 3, 7, 7), [instances([3, 1], training=False)]
    plain, ours = mask_heads(MaskRCNNConvUpsampleHead)
    run(ours, x, images, training=False)
    assert seen == [[3, 1]]
    agnostic, untouched = mask_heads(MaskRCNNConvUpsampleHead, num_classes=1)
    for training in (True, False):
        images = [instances([3, 1], training)]
        found, wanted = (run(head, x, images, training) for head in (untouched, agnostic))
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    ours.predictor.register_forward_hook(lambda *args: None)  # which must see every class
    run(ours, x, [instances([3, 1], training=False)], training=False)
    assert seen == [[3, 1]]


def test_heads_with_their_own_ways_keep_them():
    class OwnForward(MaskRCNNConvUpsampleHead):
        def forward(self, x, instances):
            return "mine"

    class OwnLayers(MaskRCNNConvUpsampleHead):
        def layers(self, x):
            return 2 * super().layers(x)

    for kind in (OwnForward, OwnLayers):
        assert type(mask_heads(kind)[1]) is kind

    class OwnBoxes(FastRCNNOutputLayers):
        def losses(self, predictions, proposals):
            return {}

    assert type(box_predictors(OwnBoxes)[1]) is OwnBoxes
    with pytest.raises(ConfigError, match="neither a Fast R-CNN box predictor nor a mask head"):
        apply_class_specific(nn.Linear(2, 2))


@pytest.fixture
def many(monkeypatch):
    """So few classes as tests have would be left to Detectron2."""
    monkeypatch.setattr(class_specific, "MANY_CLASSES", 2)


def box_predictors(kind=FastRCNNOutputLayers, **changes):
    torch.manual_seed(0)
    options = {"test_score_thresh": 0.05, "test_topk_per_image": 4, "num_classes": C, **changes}
    transform = Box2BoxTransform((10.0, 10.0, 5.0, 5.0))
    plain = kind(ShapeSpec(channels=7), box2box_transform=transform, **options)
    for layer in (plain.cls_score, plain.bbox_pred):
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    return plain, apply_class_specific(copy.deepcopy(plain))


def proposals(classes, seed=0):
    result = instances(classes, training=True, seed=seed)
    result.gt_boxes = Boxes(result.proposal_boxes.tensor + torch.tensor([1.0, -2, 3, 1]))
    return result


@pytest.mark.parametrize("kind", ["smooth_l1", "giou", "diou"])
@pytest.mark.parametrize(
    "classes", [[[1, 4, 5, 1], [0, 5]], [[5, 5], []], [[3, -1]], [[]], []], ids=str
)
def test_box_losses_are_those_of_all_classes(many, kind, classes):
    results = []
    for layers in box_predictors(box_reg_loss_type=kind, loss_weight={"loss_box_reg": 0.7}):
        x = torch.randn(
            sum(map(len, classes)), 7, generator=torch.Generator().manual_seed(1)
        ).requires_grad_()
        with EventStorage():
            labels = [proposals(labels) for labels in classes]
            predictions = layers(x)
            loss = layers.box_reg_loss(
                torch.cat([torch.zeros(0, 4), *(p.proposal_boxes.tensor for p in labels)]),
                torch.cat([torch.zeros(0, 4), *(p.gt_boxes.tensor for p in labels)]),
                predictions[1],
                torch.cat([torch.zeros(0, dtype=torch.int64), *(p.gt_classes for p in labels)]),
            )
            if classes and -1 not in sum(classes, []):
                losses = layers.losses(predictions, labels)
                torch.testing.assert_close(losses["loss_box_reg"], 0.7 * loss)
        loss.backward()
        gradients = [layers.bbox_pred.weight.grad, layers.bbox_pred.bias.grad, x.grad]
        results.append([loss.detach(), *gradients])
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-6)


def detect(layers, x, boxes):
    with torch.no_grad():
        found, rows = layers.inference(layers(x), boxes)
    return [(f.pred_boxes.tensor, f.scores, f.pred_classes, kept) for f, kept in zip(found, rows)]


@pytest.mark.parametrize("numbers", [[9, 4], [0, 5], [3, 0], [0, 0], [1]], ids=str)
@pytest.mark.parametrize("topk", [4, -1, 0])
def test_detections_are_those_of_all_classes(many, numbers, topk):
    for seed in range(8):
        plain, ours = box_predictors(test_topk_per_image=topk)
        x = torch.randn(sum(numbers), 7, generator=torch.Generator().manual_seed(seed))
        boxes = [proposals([0] * n, seed) for n in numbers]
        for found, wanted in zip(detect(ours, x, boxes), detect(plain, x, boxes), strict=True):
            torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=1e-5)
            assert all(torch.equal(a, b) for a, b in zip(found[1:], wanted[1:]))


def test_boxes_in_half_precision(many):
    labels, results = [proposals([1, 4, 5, 1, 0])], []
    x = torch.randn(5, 7)
    for layers in box_predictors():
        with torch.autocast("cpu", dtype=torch.bfloat16), EventStorage():
            predictions = layers(x)
            loss = layers.losses(predictions, labels)["loss_box_reg"]
            (found,) = detect(layers, x, labels)
        loss.backward()
        assert predictions[1].dtype == torch.bfloat16
        results.append([loss.detach(), layers.bbox_pred.weight.grad, *found])
    torch.testing.assert_close(results[1], results[0], rtol=2e-2, atol=2e-2)  # bfloat16: 8 bits


@pytest.mark.parametrize("where", ["x", "weight", "bias", "proposal", "overflow"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_rows_with_boxes_that_are_not_finite_are_dropped(many, where, value):
    plain, ours = box_predictors(test_topk_per_image=-1)
    x, boxes = torch.randn(9, 7), [proposals([0] * 9)]
    if where == "x":
        x[2, 3] = value
    elif where == "proposal":
        boxes[0].proposal_boxes.tensor[4, 1] = value
    for layers in (plain, ours):
        if where == "weight":
            layers.bbox_pred.weight.data[6, 1] = value
        elif where == "bias":
            layers.bbox_pred.bias.data[6] = value
        elif where == "overflow":
            layers.bbox_pred.weight.data[4] = 1e38  # a few rows' boxes overflow, and no delta does
    (found,), (wanted,) = detect(ours, x, boxes), detect(plain, x, boxes)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_the_boxes_of_other_classes_are_not_computed(many):
    _, ours = box_predictors()
    x = torch.randn(60, 7)
    labels = [proposals([1] + 59 * [C])]
    predictions = ours(x)
    with EventStorage():
        ours.losses(predictions, labels)
    assert "whole" not in vars(predictions[1])
    wide, ours = box_predictors(num_classes=200, test_score_thresh=0.3)
    predictions = ours(x)
    ours.inference(predictions, labels)
    assert "whole" not in vars(predictions[1])
    boxes = ours.predict_boxes(predictions, labels)  # what asks for all gets all
    torch.testing.assert_close(boxes, wide.predict_boxes(wide(x), labels))
    labels[0].gt_classes = torch.arange(60) + 150  # some of them background
    for_labels = [p.predict_boxes_for_gt_classes(p(x), labels) for p in (ours, wide)]
    torch.testing.assert_close(*for_labels)


def test_layers_that_do_more_than_a_product_are_called(many):
    class Scaled(nn.Linear):
        def forward(self, x):
            return 0 * super().forward(x)

    _, ours = box_predictors()
    assert not isinstance(ours(torch.randn(2, 7))[1], torch.Tensor)
    hook = ours.bbox_pred.register_forward_hook(lambda *args: None)
    assert isinstance(ours(torch.randn(2, 7))[1], torch.Tensor)
    hook.remove()
    ours.bbox_pred = Scaled(7, 4 * C)
    assert not ours(torch.randn(2, 7))[1].any()


def build(cfg, heads=None):
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.ROI_HEADS.NAME = heads or cfg.MODEL.ROI_HEADS.NAME
    torch.manual_seed(0)
    return build_model(cfg)


def batch(objects=True):
    inputs = []
    for index in range(2):
        found = instances([0, 2, 1][: 2 * objects + index * objects], training=True, seed=index)
        found.remove("proposal_boxes")
        image = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(index)) * 255
        inputs.append({"image": image, "instances": found, "height": 50, "width": 60})
    return inputs


def step(model, inputs):
    model.train().zero_grad()
    torch.manual_seed(5)
    with EventStorage() as storage:
        losses = model(inputs)
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    scalars = {key: value for key, (value, _) in storage.latest().items()}
    return {key: loss.detach() for key, loss in losses.items()}, gradients, scalars


@torch.no_grad()
def detections(model):
    return [
        (f.pred_boxes.tensor, f.scores, f.pred_classes, f.pred_masks)
        for f in (output["instances"] for output in model.eval()(batch()))
    ]


@pytest.mark.parametrize("name", KINDS)
def test_whole_models_are_detectron2s(many, tiny_cfg, name):
    cfg = tiny_cfg(name, "MODEL.LONG_TAIL.METHOD", "Softmax")
    plain, ours = build(cfg, KINDS[name]), build(cfg)
    heads = ours.roi_heads
    assert isinstance(heads.mask_head, ClassSpecificMasks)
    # The same seed starts the same model, and the checkpoints of either load in the other.
    assert [*plain.state_dict()] == [*ours.state_dict()]
    for (key, a), b in zip(ours.state_dict().items(), plain.state_dict().values()):
        assert torch.equal(a, b), key
    with torch.no_grad():  # spread, so that things are found and boxes moved
        for key, weight in plain.named_parameters():
            if key.startswith("roi_heads") and any(
                part in key for part in ("cls_score.weight", "bbox_pred.weight", "predictor.weight")
            ):
                weight.normal_(std=0.3)
    ours.load_state_dict(plain.state_dict())
    plain.load_state_dict(ours.state_dict())
    for objects in (True, False):
        found, wanted = step(ours, batch(objects)), step(plain, batch(objects))
        assert None not in found[1].values() or None in wanted[1].values()
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    found, wanted = detections(ours), detections(plain)
    assert sum(len(of_image[0]) for of_image in wanted) > 3
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_one_line_for_a_plain_model(tiny_cfg, frequency):
    cfg = tiny_cfg("mask_rcnn_R_18_FPN_iif", "MODEL.ROI_HEADS.NUM_CLASSES", "5")
    model, untouched = build(cfg, "StandardROIHeads"), build(cfg, "StandardROIHeads")
    assert apply_class_specific(model) is model
    assert apply_class_specific(apply_class_specific(model)) is model  # again changes nothing
    heads = model.roi_heads
    assert type(heads.box_predictor) is ClassSpecificOutputLayers
    assert isinstance(heads.mask_head, ClassSpecificMasks)
    torch.testing.assert_close(detections(model), detections(untouched))
    apply_method(model, build_method("IIF", frequency))
    assert type(heads.box_predictor) is LongTailOutputLayers
    apply_method(untouched, build_method("IIF", frequency))
    assert isinstance(untouched.roi_heads.mask_head, ClassSpecificMasks)
    torch.testing.assert_close(detections(model), detections(untouched))


def test_ddp_finds_no_unused_parameter(many, tiny_cfg, tmp_path):
    """It refuses the step after one that left a parameter without gradient."""
    model = build(tiny_cfg("mask_rcnn_R_18_FPN_iif", "MODEL.LONG_TAIL.METHOD", "Softmax"))
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/ranks", rank=0, world_size=1
    )
    try:
        parallel = nn.parallel.DistributedDataParallel(model)
        for objects in itertools.islice(itertools.cycle([False, True]), 4):
            step(parallel, batch(objects))
    finally:
        torch.distributed.destroy_process_group()
    heads = model.roi_heads
    for layer in (heads.mask_head.predictor, heads.box_predictor.bbox_pred):
        assert layer.weight.grad.shape == layer.weight.shape

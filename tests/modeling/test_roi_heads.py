"""Box predictor and ROI heads against Detectron2's own, which are the oracle."""

import copy
import math

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from iif_d2 import add_iif_config, apply_method, count_class_frequency, iif_weights
from iif_d2.checkpoint import settle_frequencies
from iif_d2.engine import LongTailTrainer
from iif_d2.errors import ConfigError, UnknownNameError
from iif_d2.methods import build_method
from iif_d2.modeling import CosineLinear, LongTailOutputLayers

KINDS = {
    "mask_rcnn_R_18_FPN_iif": "StandardROIHeads",
    "mask_rcnn_R_18_C4_iif": "Res5ROIHeads",
    "cascade_mask_rcnn_R_18_FPN_iif": "CascadeROIHeads",
}


def build(cfg, seed=0):
    torch.manual_seed(seed)
    return build_model(cfg)


def batch(with_objects=True):
    generator = torch.Generator().manual_seed(3)
    inputs = []
    for index in range(2):
        instances = Instances((64, 64))
        boxes = [[8.0, 8, 40, 44], [20, 4, 60, 30]][: 2 - index] if with_objects else []
        instances.gt_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
        instances.gt_classes = torch.tensor([0, 2][: len(boxes)])
        image = torch.randint(0, 255, (3, 64, 64), generator=generator).float()
        inputs.append({"image": image, "instances": instances, "height": 64, "width": 64})
    return inputs


def losses(model, inputs):
    model.train()
    torch.manual_seed(5)
    with EventStorage() as storage:
        result = model(inputs)
    return result, {key: value[0] for key, value in storage.latest().items()}


@torch.no_grad()
def detections(model):
    return [output["instances"] for output in model.eval()(batch())]


def same(a, b):
    return all(
        torch.equal(x.pred_boxes.tensor, y.pred_boxes.tensor)
        and torch.equal(x.scores, y.scores)
        and torch.equal(x.pred_classes, y.pred_classes)
        for x, y in zip(a, b)
    )


@pytest.mark.parametrize("name", KINDS)
def test_softmax_is_detectron2s_own_bit_for_bit(tiny_cfg, name):
    cfg = tiny_cfg(name, "MODEL.LONG_TAIL.METHOD", "Softmax", "MODEL.MASK_ON", "False")
    plain_cfg = cfg.clone()
    plain_cfg.defrost()
    plain_cfg.MODEL.ROI_HEADS.NAME = KINDS[name]
    ours, plain = build(cfg), build(plain_cfg)
    assert list(ours.state_dict()) == list(plain.state_dict())
    (our_losses, our_log), (plain_losses, plain_log) = losses(ours, batch()), losses(plain, batch())
    assert our_losses.keys() == plain_losses.keys()
    for key in our_losses:
        assert torch.equal(our_losses[key], plain_losses[key]), key
    assert our_log == plain_log
    found = detections(ours)
    assert sum(map(len, found)) > 0 and same(found, detections(plain))


@pytest.mark.parametrize("name", KINDS)
def test_iif_is_detectron2s_predictor_on_weighted_rows(tiny_cfg, name, dataset_name):
    """Scaling rows of cls_score by w makes plain Detectron2 predict, and lose, what IIF does."""
    cfg = tiny_cfg(name, "MODEL.MASK_ON", "False")
    plain_cfg = cfg.clone()
    plain_cfg.defrost()
    plain_cfg.MODEL.ROI_HEADS.NAME = KINDS[name]
    ours, plain = build(cfg), build(plain_cfg)
    plain.load_state_dict(ours.state_dict(), strict=False)  # all but the class counts
    weights = [*iif_weights(count_class_frequency(dataset_name)).tolist(), 1.0]
    for module in plain.modules():
        if isinstance(module, FastRCNNOutputLayers):
            with torch.no_grad():
                scale = torch.tensor(weights, dtype=torch.float64)
                module.cls_score.weight.copy_(module.cls_score.weight.double() * scale[:, None])
                module.cls_score.bias.copy_(module.cls_score.bias.double() * scale)
    our_losses, our_log = losses(ours, batch())
    plain_losses, plain_log = losses(plain, batch())
    for key in our_losses:
        torch.testing.assert_close(our_losses[key], plain_losses[key], rtol=1e-4, atol=1e-6)
    accuracy = [key for key in our_log if key.endswith("cls_accuracy")]
    assert accuracy and all(our_log[key] == plain_log[key] for key in accuracy)
    for a, b in zip(detections(ours), detections(plain)):
        torch.testing.assert_close(a.scores, b.scores, rtol=1e-4, atol=1e-6)


def predictor(method, **changes):
    from detectron2.layers import ShapeSpec
    from detectron2.modeling.box_regression import Box2BoxTransform

    torch.manual_seed(0)
    return LongTailOutputLayers(
        ShapeSpec(channels=7),
        method=method,
        box2box_transform=Box2BoxTransform((10, 10, 5, 5)),
        num_classes=5,
        **changes,
    )


def proposals(classes):
    instances = Instances((50, 50))
    count = len(classes)
    instances.proposal_boxes = Boxes(torch.tensor([[2.0, 2, 20, 20]]).repeat(count, 1))
    instances.gt_boxes = Boxes(torch.tensor([[3.0, 2, 22, 20]]).repeat(count, 1))
    instances.gt_classes = torch.tensor(classes, dtype=torch.int64)
    return instances


def test_expected_losses(frequency):
    """Numbers that any change of the mathematics would move."""
    layers = predictor(build_method("IIF", frequency))
    torch.manual_seed(1)
    features = torch.randn(4, 7)
    with torch.no_grad():
        layers.cls_score.weight.normal_(std=0.5)
    with EventStorage() as storage:
        result = layers.losses(layers(features), [proposals([0, 3, 5, 5])])
    z = (features.double() @ layers.cls_score.weight.double().T).tolist()
    w = [-math.log(max(n, 1) / 141) for n in (90, 40, 10, 1, 0)] + [1.0]
    expected, right = 0.0, 0
    for row, label in zip(z, (0, 3, 5, 5)):
        adjusted = [a * b for a, b in zip(row, w)]
        expected += math.log(sum(map(math.exp, adjusted))) - adjusted[label]
        right += adjusted.index(max(adjusted)) == label
    assert result["loss_cls"].item() == pytest.approx(expected / 4, rel=1e-5)
    assert storage.latest()["fast_rcnn/cls_accuracy"][0] == right / 4


@pytest.mark.parametrize(
    "rows", [[[5, 5], []], [[]], []], ids=["no foreground", "no rows", "no image"]
)
def test_empty_batches_give_finite_losses_with_a_gradient(frequency, rows):
    layers = predictor(build_method("IIF", frequency))
    features = torch.randn(sum(map(len, rows)), 7)
    with EventStorage():
        result = layers.losses(layers(features), [proposals(classes) for classes in rows])
    total = sum(result.values())
    total.backward()
    assert torch.isfinite(total) and layers.cls_score.weight.grad is not None
    assert torch.isfinite(layers.cls_score.weight.grad).all()


def test_a_whole_model_survives_images_without_objects(tiny_cfg):
    result, _ = losses(build(tiny_cfg()), batch(with_objects=False))
    total = sum(result.values())
    total.backward()
    assert torch.isfinite(total)


def test_no_proposals_no_detections(frequency):
    layers = predictor(build_method("IIF", frequency)).eval()
    empty = Instances((50, 50))
    empty.proposal_boxes = Boxes(torch.zeros(0, 4))
    found, _ = layers.inference(layers(torch.zeros(0, 7)), [empty])
    assert len(found) == 1 and len(found[0]) == 0


def test_amp_keeps_weights_and_softmax_in_float32(frequency):
    layers = predictor(build_method("IIF", frequency))
    features = torch.randn(6, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictions = layers(features)
        assert predictions[0].dtype == torch.bfloat16
        probabilities = layers.predict_probs(predictions, [proposals([0] * 6)])[0]
        with EventStorage():
            loss = layers.losses(predictions, [proposals([0, 1, 2, 3, 4, 5])])["loss_cls"]
    expected = build_method("IIF", frequency).probabilities(predictions[0].float())
    assert probabilities.dtype == torch.float32 and torch.equal(probabilities, expected)
    assert loss.dtype == torch.float32


def test_cosine_classifier_is_scaled_cosines_plus_bias():
    torch.manual_seed(0)
    layer = CosineLinear(5, 3, scale=8.0)
    x = torch.randn(4, 5)
    for row in range(4):
        for c in range(3):
            w = layer.weight[c]
            cosine = (w @ x[row] / (w.norm() * x[row].norm())).item()
            expected = 8.0 * cosine + layer.bias[c].item()
            assert layer(x)[row, c].item() == pytest.approx(expected, abs=1e-5)
    assert torch.autograd.gradcheck(copy.deepcopy(layer).double(), torch.randn(2, 5).double().requires_grad_())  # fmt: skip


def test_cosine_classifier_is_a_key(tiny_cfg):
    cfg = tiny_cfg("mask_rcnn_R_18_FPN_iif", "MODEL.LONG_TAIL.CLASSIFIER", "cosine", "MODEL.LONG_TAIL.COSINE_SCALE", "8.0")  # fmt: skip
    model = build(cfg)
    layer = model.roi_heads.box_predictor.cls_score
    assert isinstance(layer, CosineLinear) and layer.scale == 8.0
    result, _ = losses(model, batch_with_masks())
    sum(result.values()).backward()
    assert layer.weight.grad.abs().sum() > 0
    with pytest.raises(UnknownNameError, match="known: linear, cosine"):
        build(tiny_cfg("mask_rcnn_R_18_FPN_iif", "MODEL.LONG_TAIL.CLASSIFIER", "sine"))


def batch_with_masks():
    from detectron2.structures import PolygonMasks

    inputs = batch()
    for item in inputs:
        boxes = item["instances"].gt_boxes.tensor.tolist()
        polygons = [[[x0, y0, x1, y0, x1, y1, x0, y1]] for x0, y0, x1, y1 in boxes]
        item["instances"].gt_masks = PolygonMasks(polygons)
    return inputs


def test_class_counts_that_disagree_are_both_named(tiny_cfg):
    cfg = tiny_cfg("mask_rcnn_R_18_FPN_iif", "MODEL.ROI_HEADS.NUM_CLASSES", "7")
    model = build(cfg)  # reads nothing
    with pytest.raises(ConfigError, match="NUM_CLASSES is 7, but tiny_lvis has 4 classes"):
        settle_frequencies(model, training=True, checkpoint="")


def test_detectron2s_own_losses_are_not_mixed_in(frequency):
    cfg = get_cfg()
    add_iif_config(cfg)
    cfg.MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE = True
    with pytest.raises(ConfigError, match="USE_SIGMOID_CE"):
        LongTailOutputLayers.from_config(cfg, None)


@pytest.mark.parametrize("name", KINDS)
def test_apply_method_to_a_plain_detectron2_model(tiny_cfg, name, dataset_name):
    cfg = tiny_cfg(name, "MODEL.MASK_ON", "False")
    plain_cfg = cfg.clone()
    plain_cfg.defrost()
    plain_cfg.MODEL.ROI_HEADS.NAME = KINDS[name]
    ours, plain = build(cfg), build(plain_cfg)
    keys = set(plain.state_dict())
    frequency = count_class_frequency(dataset_name)
    plain.load_state_dict(ours.state_dict(), strict=False)
    assert apply_method(plain, build_method("IIF", frequency)) is plain
    assert same(detections(ours), detections(plain))
    added = set(plain.state_dict()) - keys
    assert keys <= set(plain.state_dict()) and all(".method." in key for key in added)
    apply_method(plain, build_method("Softmax", frequency))  # and back
    assert set(plain.state_dict()) == keys
    with pytest.raises(ConfigError, match="no Fast R-CNN box predictor"):
        apply_method(torch.nn.Linear(2, 2), build_method("IIF", frequency))


def test_a_predictor_subclass_keeps_its_own_ways(frequency):
    from detectron2.layers import ShapeSpec
    from detectron2.modeling.box_regression import Box2BoxTransform

    class Doubled(FastRCNNOutputLayers):
        def forward(self, x):
            scores, deltas = super().forward(x)
            return 2 * scores, deltas

    layers = Doubled(
        ShapeSpec(channels=7), box2box_transform=Box2BoxTransform((10, 10, 5, 5)), num_classes=5
    )
    x = torch.randn(3, 7)
    doubled = layers(x)[0]
    apply_method(layers, build_method("IIF", frequency))
    assert isinstance(layers, Doubled) and torch.equal(layers(x)[0], doubled)
    found = layers.predict_probs(layers(x), [proposals([0, 0, 0])])[0]
    assert torch.equal(found, build_method("IIF", frequency).probabilities(doubled))
    with pytest.raises(ConfigError, match="predictor has 5 classes"):
        apply_method(layers, build_method("IIF", type(frequency)(("a", "b"), [1, 2], None, 9)))


def test_plain_heads_leave_the_method_out_and_that_is_said(tiny_cfg, caplog):
    for heads, method, said in [
        ("StandardROIHeads", "IIF", True),
        ("StandardROIHeads", "Softmax", False),
        ("LongTailROIHeads", "IIF", False),
    ]:
        options = ("MODEL.ROI_HEADS.NAME", heads, "MODEL.LONG_TAIL.METHOD", method)
        caplog.clear()
        LongTailTrainer.build_model(tiny_cfg("mask_rcnn_R_18_FPN_iif", *options))
        assert ("MODEL.LONG_TAIL.METHOD is IIF, but" in caplog.text) == said

"""The normed mask predictor: against loops, with every method, as run lengths, and not folded."""

import math

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

from iif_d2 import fold_checkpoint
from iif_d2.checkpoint import settle_frequencies
from iif_d2.errors import ConfigError
from iif_d2.evaluation import rle_masks
from iif_d2.methods import METHOD_REGISTRY
from iif_d2.modeling import NormedConv2d, NormedMaskHead

NORMED = ("MODEL.ROI_MASK_HEAD.NAME", "NormedMaskHead")
METHODS = sorted(name for name, method in METHOD_REGISTRY if method.supports_background)


def test_it_is_scaled_cosines_plus_bias():
    torch.manual_seed(0)
    layer = NormedConv2d(5, 3, scale=8.0)
    x = torch.randn(2, 5, 4, 6)
    found = layer(x)
    assert found.shape == (2, 3, 4, 6)
    for image, c, row, column in [(0, 0, 0, 0), (0, 2, 3, 5), (1, 1, 2, 1), (1, 2, 0, 5)]:
        w, pixel = layer.weight[c, :, 0, 0].tolist(), x[image, :, row, column].tolist()
        dot = sum(a * b for a, b in zip(w, pixel))
        norms = math.sqrt(sum(a * a for a in w)) * math.sqrt(sum(b * b for b in pixel))
        expected = 8.0 * dot / norms + layer.bias[c].item()
        assert found[image, c, row, column].item() == pytest.approx(expected, abs=1e-5)


def test_its_gradient_is_that_of_differences():
    torch.manual_seed(0)
    layer = NormedConv2d(4, 3, scale=20.0).double()
    x = torch.randn(2, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    parameters = dict(layer.named_parameters())

    def call(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(call, (x, parameters["weight"], parameters["bias"]))


def test_neither_the_lengths_of_weights_nor_of_features_matter():
    layer = NormedConv2d(4, 3)
    x = torch.randn(1, 4, 2, 2)
    before = layer(x)
    with torch.no_grad():
        layer.weight.mul_(torch.tensor([0.01, 3.0, 70.0]).reshape(3, 1, 1, 1))
    torch.testing.assert_close(layer(5 * x), before)


def test_a_pixel_that_relu_left_empty_gets_the_bias_and_a_finite_gradient():
    layer = NormedConv2d(4, 3)
    x = -torch.rand(1, 4, 2, 2)
    x.requires_grad_()
    logits = layer(x.relu())
    assert torch.equal(logits, layer.bias[None, :, None, None].expand(1, 3, 2, 2))
    logits.sum().backward()
    assert x.grad.isfinite().all() and layer.weight.grad.isfinite().all()


def build(cfg):
    torch.manual_seed(0)
    model = build_model(cfg)
    settle_frequencies(model, training=True, checkpoint="")
    return model


def batch():
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1)) * 255
    instances = Instances((64, 64))
    instances.gt_boxes = Boxes(torch.tensor([[8.0, 8, 40, 44], [20, 4, 60, 30]]))
    instances.gt_classes = torch.tensor([0, 2])
    instances.gt_masks = PolygonMasks(
        [[[8.0, 8, 40, 8, 40, 44, 8, 44]], [[20.0, 4, 60, 4, 60, 30, 20, 30]]]
    )
    return [{"image": image, "instances": instances, "height": 64, "width": 64}]


@pytest.mark.parametrize("method", METHODS)
def test_it_trains_beside_every_method_with_either_classifier(tiny_cfg, method):
    model = build(
        tiny_cfg(
            "mask_rcnn_R_18_FPN_iif", *NORMED, "MODEL.ROI_MASK_HEAD.NORMED_SCALE", "7.0",
            "MODEL.LONG_TAIL.METHOD", method, "MODEL.LONG_TAIL.CLASSIFIER", "cosine",
        )
    )  # fmt: skip
    if method == "LogN":  # which needs a pass over the training set first
        model.roi_heads.box_predictor.method.observe(torch.randn(9, 5))
    head = model.roi_heads.mask_head
    assert isinstance(head, NormedMaskHead) and head.predictor.scale == 7.0
    with EventStorage():
        losses = model.train()(batch())
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    for weight in (head.predictor.weight, model.roi_heads.box_predictor.cls_score.weight):
        assert weight.grad.isfinite().all() and weight.grad.abs().sum() > 0


@torch.no_grad()
def test_masks_as_run_lengths_are_those_that_are_pasted(tiny_cfg):
    from pycocotools import mask

    model = build(tiny_cfg("mask_rcnn_R_18_FPN_iif", *NORMED)).eval()
    pasted = model(batch())[0]["instances"]
    encoded = rle_masks(model)(batch())[0]["instances"]
    assert len(pasted) > 0 and pasted.pred_masks.any()
    for bits, rle in zip(pasted.pred_masks, encoded.pred_masks_rle):
        assert (mask.decode(rle) == bits.numpy()).all()


def test_folding_refuses_it_by_name(tiny_cfg):
    with pytest.raises(ConfigError, match="plain Detectron2 has no Normed.*mask_head"):
        fold_checkpoint(build(tiny_cfg("mask_rcnn_R_18_FPN_iif", *NORMED)))


def test_it_loads_detectron2s_own_mask_head(tiny_cfg):
    plain, normed = build(tiny_cfg()), build(tiny_cfg("mask_rcnn_R_18_FPN_iif", *NORMED))
    assert {k: v.shape for k, v in plain.state_dict().items()} == {
        k: v.shape for k, v in normed.state_dict().items()
    }
    normed.load_state_dict(plain.state_dict())


@pytest.mark.parametrize("kind", ["giou", "smooth_l1"])
def test_detectron2s_key_chooses_the_box_loss(tiny_cfg, kind):
    """For a box of the same corners giou's loss is 0, for one beside it more than 1."""
    cfg = tiny_cfg("mask_rcnn_R_18_FPN_iif", "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", kind)
    predictor = build(cfg).roi_heads.box_predictor
    boxes = torch.tensor([[0.0, 0, 10, 10]])
    beside = torch.tensor([[10.0, 0, 20, 10]])  # no overlap, hull 200: giou = 0 - (200 - 200) / 200
    away = torch.tensor([[30.0, 0, 40, 10]])  # hull 400: giou = -(400 - 200) / 400
    label = torch.tensor([1])
    deltas = torch.zeros(1, 4)
    loss = [predictor.box_reg_loss(boxes, gt, deltas, label).item() for gt in (boxes, beside, away)]
    expected = [0.0, 1.0, 1.5] if kind == "giou" else [0.0, 10.0, 30.0]
    assert loss == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_that_gives_a_constant_mask_is_refused(scale):
    with pytest.raises(ConfigError, match="NORMED_SCALE is .*; it must be above 0"):
        NormedConv2d(4, 1, scale)

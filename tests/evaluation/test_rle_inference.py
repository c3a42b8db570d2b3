"""Run lengths out of a whole model, against the masks that Detectron2 pastes."""

import numpy as np
import pytest
import torch
from detectron2.evaluation.evaluator import inference_context
from detectron2.modeling import GeneralizedRCNN, build_model
from detectron2.modeling.postprocessing import detector_postprocess
from pycocotools import mask as coco_mask

from iif_d2.checkpoint import settle_frequencies
from iif_d2.errors import ConfigError
from iif_d2.evaluation import rle_masks


@pytest.fixture
def model(tiny_cfg):
    torch.manual_seed(0)
    model = build_model(tiny_cfg("mask_rcnn_R_18_FPN_iif"))
    settle_frequencies(model, training=False, checkpoint="")
    return model.eval()


def make_inputs():
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 255, (2, 3, 64, 96), generator=generator).float()
    # One in the network's size, one to be scaled to another.
    return [{"image": images[0]}, {"image": images[1], "height": 130, "width": 200}]


@torch.no_grad()
@pytest.mark.parametrize("threshold", [0.5, 0.4])
def test_masks_are_those_that_detectron2_pastes(model, threshold):
    inputs = make_inputs()
    raw = model.inference(inputs, do_postprocess=False)
    shapes = [(64, 96), (130, 200)]
    expected = [detector_postprocess(r, *s, threshold) for r, s in zip(raw, shapes)]
    found = [output["instances"] for output in rle_masks(model, threshold)(inputs)]
    assert all(len(instances) for instances in expected)
    for ours, theirs in zip(found, expected):
        assert not ours.has("pred_masks")
        masks = np.stack([coco_mask.decode(rle) for rle in ours.pred_masks_rle]).astype(bool)
        assert np.array_equal(masks, theirs.pred_masks.numpy()) and masks.any()
        assert torch.equal(ours.pred_boxes.tensor, theirs.pred_boxes.tensor)
        assert torch.equal(ours.scores, theirs.scores)


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
def test_the_model_itself_stays_as_it_is(model, training):
    model.train(training)
    with inference_context(rle_masks(model)):
        assert not model.training
        assert model(make_inputs())[0]["instances"].has("pred_masks")
    assert model.training == training


class OwnInference(GeneralizedRCNN):
    def inference(self, batched_inputs, detected_instances=None, do_postprocess=True):
        return "its own"


def test_a_model_with_its_own_inference_is_left_alone(model):
    model.__class__ = OwnInference
    assert rle_masks(model)(make_inputs()) == "its own"
    with pytest.raises(ConfigError, match="THRESH_TEST is 0.4, but OwnInference"):
        rle_masks(model, 0.4)

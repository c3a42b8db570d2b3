"""`apply_method` on Detectron2's own zoo configs, and the predictor of one's own of docs/projects.md."""

import pytest
import torch
from detectron2 import model_zoo
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage
from torch import nn

from iif_d2 import ClassFrequency, apply_method
from iif_d2.methods import build_method

ZOO = {
    "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml": 1,
    "COCO-Detection/faster_rcnn_R_50_C4_1x.yaml": 1,
    "COCO-Detection/faster_rcnn_R_50_DC5_1x.yaml": 1,
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml": 1,
    "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml": 1,
    "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml": 3,
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml": 1,
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml": 1,
    "LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml": 1,
}
NARROW = [
    "MODEL.DEVICE", "cpu", "MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64",
    "MODEL.RESNETS.RES5_DILATION", "1",
    "MODEL.BACKBONE.FREEZE_AT", "0", "MODEL.FPN.OUT_CHANNELS", "16",
    "MODEL.ROI_BOX_HEAD.FC_DIM", "16", "MODEL.ROI_MASK_HEAD.CONV_DIM", "8",
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", "7", "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", "(8,)",
    "MODEL.SEM_SEG_HEAD.CONVS_DIM", "8", "MODEL.SEM_SEG_HEAD.NORM", "",
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS", "False", "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", "False",
    "MODEL.RPN.POST_NMS_TOPK_TEST", "20", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "20",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "16", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0",
    "MODEL.KEYPOINT_ON", "False",
]  # fmt: skip


def zoo_model(name):
    try:
        cfg = model_zoo.get_config(name)
    except RuntimeError:
        pytest.skip("this Detectron2 comes without its zoo's configs")
    keypoints, heads = cfg.MODEL.KEYPOINT_ON, cfg.MODEL.ROI_HEADS.NAME
    cfg.merge_from_list([*NARROW, "MODEL.KEYPOINT_ON", str(keypoints)])
    if heads == "Res5ROIHeads":
        cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    torch.manual_seed(0)
    return build_model(cfg), cfg


def batch(cfg):
    draws = torch.Generator().manual_seed(3)
    instances = Instances((64, 64))
    instances.gt_boxes = Boxes(torch.tensor([[8.0, 8, 40, 44]]))
    instances.gt_classes = torch.tensor([0])
    if cfg.MODEL.MASK_ON:
        masks = torch.zeros(1, 64, 64, dtype=torch.bool)
        masks[:, 8:44, 8:40] = True
        instances.gt_masks = BitMasks(masks)
    if cfg.MODEL.KEYPOINT_ON:
        instances.gt_keypoints = Keypoints(torch.full((1, 17, 3), 20.0))
    image = torch.randint(0, 255, (3, 64, 64), generator=draws).float()
    return [
        {
            "image": image, "instances": instances, "height": 64, "width": 64,
            "sem_seg": torch.zeros(64, 64, dtype=torch.long),
        }
    ]  # fmt: skip


@torch.no_grad()
def found(model, inputs):
    torch.manual_seed(0)
    return model.eval()(inputs)[0]["instances"]


@pytest.mark.parametrize("name", ZOO)
def test_three_lines_on_a_zoo_model(name):
    model, cfg = zoo_model(name)
    if cfg.MODEL.MASK_ON:
        cfg.INPUT.MASK_FORMAT = "bitmask"
    inputs = batch(cfg)
    predictors = [m for m in model.modules() if isinstance(m, FastRCNNOutputLayers)]
    assert len(predictors) == ZOO[name]
    for predictor in predictors:
        nn.init.normal_(predictor.cls_score.weight, std=0.02)
    plain = found(model, inputs)
    classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
    counts = [2 + 7 * (c % 13) for c in range(classes)]
    frequency = ClassFrequency(map(str, range(classes)), counts, None, 100)

    assert apply_method(model, build_method("Softmax", frequency)) is model
    same = found(model, inputs)
    assert len(plain) and torch.equal(same.scores, plain.scores)
    assert torch.equal(same.pred_classes, plain.pred_classes)

    # With one class alone, IIF's prior is 1 and its factor 0, which IIF refuses.
    apply_method(model, build_method("IIF" if classes > 1 else "NorCal", frequency))
    other = found(model, inputs)
    assert set(other.get_fields()) == set(plain.get_fields())
    assert not torch.equal(other.scores, plain.scores)
    if classes > 1:
        # Rare classes have the larger factor on a positive logit.
        images = torch.tensor(counts, dtype=torch.float32)
        mean = [images[detections.pred_classes].mean() for detections in (plain, other)]
        assert mean[1] < mean[0]

    model.train()
    with EventStorage():
        losses = model(inputs)
    sum(losses.values()).backward()
    for predictor in predictors:
        assert predictor.cls_score.weight.grad.abs().sum() > 0


class OwnPredictor(nn.Module):
    """The pattern of docs/projects.md, 'A predictor of your own'."""

    def __init__(self, channels, method):
        super().__init__()
        self.method = method
        self.classifier = nn.Linear(channels, method.num_logits)
        method.init_classifier(self.classifier)

    def forward(self, features):
        return self.method(self.classifier(features), features)

    def losses(self, logits, gt_classes):
        return {"loss_cls": self.method.loss(logits, gt_classes)}

    def scores(self, logits):
        return self.method.probabilities(logits)


@pytest.mark.parametrize("name", ["IIF", "Seesaw", "Sigmoid", "EQLv2", "DisAlign"])
def test_a_predictor_of_ones_own(name, frequency):
    torch.manual_seed(0)
    predictor = OwnPredictor(7, build_method(name, frequency))
    features, labels = torch.randn(6, 7), torch.tensor([0, 1, 2, 5, 5, 5])
    optimizer = torch.optim.SGD(predictor.parameters(), lr=0.5)
    history = []
    for _ in range(20):
        loss = predictor.losses(predictor(features), labels)["loss_cls"]
        history.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert history[-1] < history[0]
    scores = predictor.scores(predictor(features))
    assert scores.shape == (6, 6) and ((scores >= 0) & (scores <= 1)).all()
    again = OwnPredictor(7, build_method(name, frequency))
    again.load_state_dict(predictor.state_dict())
    assert torch.equal(again.scores(again(features)), scores)

"""What a class costs: whole passes of Mask R-CNN at 80 to 13,000 classes beside Detectron2's.

Both sides are one config, one seed and softmax; theirs has Detectron2's ROI heads. Training samples
512 regions, 128 of them foreground; inference scores 1,000 and predicts masks of the best 300.
Those regions are given, whatever the untrained model proposes, so that the work is the same.
"""

from __future__ import annotations

import json
from functools import partial

import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from measure import MIB, Row, alternate, isolated
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from iif_d2.config import load_config

CONFIG = "LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
HEADS = {"theirs": "StandardROIHeads", "ours": "LongTailROIHeads"}
CLASSES = (80, 1203, 4000, 13000)
SIZES = {"cpu": (256, 320), "cuda": (800, 1216)}  # in a small image the heads' share is largest
OBJECTS, AROUND, BACKGROUND = 16, 12, 800  # enough for 128 foreground and 384 background regions
PROPOSALS, DETECTIONS = 1000, 300
SPREAD = 3.665  # of the logits: at 1,203 classes 127,000 of 1,203,000 scores are above 1e-4
# Of the mask logits of all classes, which theirs holds once at test and twice in training.
MOST_BYTES = {"cpu": 1_500_000_000, "cuda": 24_000_000_000}


def run(options):
    for training in (True, False):
        sides = [
            (side, classes)
            for classes in CLASSES
            for side in HEADS
            if side == "ours" or logit_bytes(classes, training) <= MOST_BYTES[options.device]
        ]
        counted = {
            which: isolated("heads", "counted", *which, training, options.device) for which in sides
        }
        passes = {which: Pass(*which, training, options.device) for which in sides}
        repeat = 5 if options.full else 1
        seconds = alternate(passes, repeat, options.device, int(options.device != "cpu"))
        for classes in CLASSES:
            yield row(classes, training, counted, passes, seconds, options.device)


def logit_bytes(classes: int, training: bool) -> int:
    return 4 * 28 * 28 * classes * (128 if training else DETECTIONS)


def row(classes: int, training: bool, counted, passes, seconds, device: str) -> Row:
    ours, theirs = ("ours", classes), ("theirs", classes)
    beside = theirs in counted
    flops = [
        f"{json.loads(counted[which]['digest'])['flops'] / 1e9:,.0f}"
        for which in (theirs, ours)
        if which in counted
    ]
    memory = {
        which: one["memory"] if device == "cpu" else json.loads(one["digest"])["cuda"] / MIB
        for which, one in counted.items()
    }
    height, width = SIZES[device]
    kind = "training step" if training else "inference"
    return Row(
        f"a Mask R-CNN's {kind}",
        f"R50-FPN, {classes:,} classes, {width}x{height}; {' / '.join(flops)} GFLOP",
        ours=seconds[ours],
        reference="Detectron2" if beside else "",
        theirs=seconds.get(theirs, []),
        ours_memory=memory[ours],
        theirs_memory=memory.get(theirs),
        identical=close(passes[ours].result, passes[theirs].result) if beside else None,
        series=f"classes, {kind}",
        x=classes,
        note="identical: losses and gradients, or detections, to float32's rounding",
    )


def counted(side: str, classes: int, training: bool, device: str):
    """One pass in a process of its own, which counts operations and memory."""
    one = Pass(side, classes, training, device)
    counter = FlopCounterMode(display=False)

    def call() -> None:
        with counter:
            one()

    def digest(_: None) -> str:
        cuda = torch.cuda.max_memory_allocated() if device != "cpu" else 0
        return json.dumps({"flops": counter.get_total_flops(), "cuda": cuda})

    return call, digest


class Pass:
    """A training step or an inference of one image; `result` is what the last one gave."""

    def __init__(self, side: str, classes: int, training: bool, device: str) -> None:
        self.model = mask_rcnn(HEADS[side], classes, device).train(training)
        self.training = training
        self.batch = [image(classes, SIZES[device], device)]
        boxes = regions(self.batch[0]["instances"].gt_boxes.tensor, SIZES[device], training)
        self.model.proposal_generator.register_forward_hook(partial(given, boxes=boxes))

    def __call__(self) -> None:
        torch.manual_seed(0)
        if self.training:
            self.model.zero_grad()
            with EventStorage():
                losses = self.model(self.batch)
            sum(losses.values()).backward()
            heads = self.model.roi_heads
            layers = (heads.mask_head.predictor, heads.box_predictor.bbox_pred, heads.box_head.fc1)
            self.result = [loss.detach() for loss in losses.values()]
            self.result += [layer.weight.grad.norm() for layer in layers]
        else:
            with torch.no_grad():
                (found,) = self.model.inference(self.batch, do_postprocess=False)
            self.result = [found.pred_boxes.tensor, found.scores, found.pred_masks]


def close(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(
        a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-4)
        for a, b in zip(ours, theirs)
    )


def mask_rcnn(heads: str, classes: int, device: str) -> nn.Module:
    torch.manual_seed(0)
    overrides = {
        "DEVICE": device, "WEIGHTS": "", "LONG_TAIL.METHOD": "Softmax", "ROI_HEADS.NAME": heads,
        "ROI_HEADS.NUM_CLASSES": classes, "ROI_HEADS.BATCH_SIZE_PER_IMAGE": 512,
        "ROI_HEADS.SCORE_THRESH_TEST": 1e-4,
    }  # fmt: skip
    options = [str(o) for key, value in overrides.items() for o in (f"MODEL.{key}", value)]
    model = build_model(
        load_config(CONFIG, [*options, "TEST.DETECTIONS_PER_IMAGE", str(DETECTIONS)])
    )
    # An untrained model sees the same in all regions, and would find one class everywhere.
    model.roi_heads.box_head.register_forward_hook(varied)
    nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=SPREAD / 32)
    return model


def varied(module: nn.Module, args: tuple, features: Tensor) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    noise = torch.randn(features.shape, generator=draws).to(features)
    return noise + features / features.norm(dim=1, keepdim=True)


def given(module: nn.Module, args: tuple, output: tuple, boxes: Tensor) -> tuple:
    proposals = Instances(args[0].image_sizes[0])
    proposals.proposal_boxes = Boxes(boxes.clone())
    proposals.objectness_logits = boxes.new_ones(len(boxes))
    return [proposals], output[1]


def image(classes: int, size: tuple[int, int], device: str) -> dict:
    draws = torch.Generator().manual_seed(0)
    corner = torch.rand(OBJECTS, 2, generator=draws) * torch.tensor([size[1] - 120, size[0] - 120])
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.cat([corner, corner + 120], dim=1))
    instances.gt_classes = torch.randint(0, classes, (OBJECTS,), generator=draws)
    instances.gt_masks = BitMasks(torch.ones(OBJECTS, *size, dtype=torch.bool))
    pixels = torch.randint(0, 256, (3, *size), generator=draws, dtype=torch.uint8)
    return {"image": pixels, "instances": instances.to(device)}


def regions(objects: Tensor, size: tuple[int, int], training: bool) -> Tensor:
    """Boxes around the objects, which are foreground, and boxes much smaller than any."""
    draws = torch.Generator().manual_seed(0)
    near = AROUND if training else 0
    around = objects.cpu().repeat(near, 1)
    around = around + torch.randn(around.shape, generator=draws) * 5
    number = BACKGROUND if training else PROPOSALS
    corner = torch.rand(number, 2, generator=draws) * torch.tensor([size[1] - 80, size[0] - 80])
    side = 20 + torch.rand(number, 2, generator=draws) * 60
    return torch.cat([around, torch.cat([corner, corner + side], dim=1)]).to(objects)

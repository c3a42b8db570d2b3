"""What IIF costs against softmax: the classifier's part alone, and steps of a whole model."""

from __future__ import annotations

from functools import partial

import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from measure import Row, alternate

from iif_d2 import count_class_frequency
from iif_d2.config import load_config
from iif_d2.methods import build_method

CONFIG = "LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
METHODS = {"ours": "IIF", "theirs": "Softmax"}
ROWS, DIM = 1024, 1024  # sampled regions of two images
SIZE = (256, 320)  # small on a CPU, where the method's share is then the largest


def run(options):
    yield classifier(options)
    models = {side: lvis_model(name, options.device) for side, name in METHODS.items()}
    models["ours"].load_state_dict(models["theirs"].state_dict(), strict=False)
    repeat = 40 if options.full else 4
    for name, step in (("training step", train_step), ("inference", infer)):
        batch = images(options.device)
        sides = {side: partial(step, model, batch) for side, model in models.items()}
        yield Row(
            f"IIF's {name}",
            f"Mask R-CNN R50-FPN, 1,203 classes, {SIZE[1]}x{SIZE[0]}",
            reference="the same with softmax",
            **alternate(sides, repeat, options.device, 2),
        )


def classifier(options) -> Row:
    frequency = count_class_frequency("lvis_v1_train")
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(ROWS, DIM, generator=generator).to(options.device)
    labels = torch.randint(0, 1204, (ROWS,), generator=generator).to(options.device)
    layer = torch.nn.Linear(DIM, 1204).to(options.device)
    methods = {s: build_method(n, frequency).to(options.device) for s, n in METHODS.items()}

    def step(method) -> None:
        layer.zero_grad()
        method.loss(layer(features), labels).backward()

    sides = {side: (lambda method=method: step(method)) for side, method in methods.items()}
    return Row(
        "IIF's loss",
        f"linear layer, loss and gradients of {ROWS} x 1204",
        reference="the same with softmax",
        **alternate(sides, 60 if options.full else 20, options.device, 3),
    )


def lvis_model(method: str, device: str) -> torch.nn.Module:
    torch.manual_seed(0)
    overrides = ["MODEL.LONG_TAIL.METHOD", method, "MODEL.WEIGHTS", "", "MODEL.DEVICE", device]
    # Masks of 300 detections and 1,203 classes would be most of the time, and hide the method's.
    overrides += ["TEST.DETECTIONS_PER_IMAGE", "50"]
    cfg = load_config(CONFIG, [*overrides, "MODEL.LONG_TAIL.FREQUENCY", "lvis_v1_train"])
    return build_model(cfg)


def images(device: str) -> list[dict]:
    """Two images of eight objects."""
    generator = torch.Generator().manual_seed(0)
    batch = []
    for _ in range(2):
        corner = torch.rand(8, 2, generator=generator) * 150
        instances = Instances(SIZE)
        instances.gt_boxes = Boxes(torch.cat([corner, corner + 80], dim=1))
        instances.gt_classes = torch.randint(0, 1203, (8,), generator=generator)
        instances.gt_masks = BitMasks(torch.ones(8, *SIZE, dtype=torch.bool))
        pixels = torch.randint(0, 256, (3, *SIZE), generator=generator, dtype=torch.uint8)
        batch.append({"image": pixels, "instances": instances})
    return batch


def train_step(model: torch.nn.Module, batch: list[dict]) -> None:
    """Forward and backward; the weights stay, so that both models do the same work."""
    torch.manual_seed(0)
    model.train().zero_grad()
    with EventStorage():
        sum(model(batch).values()).backward()


@torch.no_grad()
def infer(model: torch.nn.Module, batch: list[dict]) -> None:
    model.eval()
    model(batch)

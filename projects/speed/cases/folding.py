"""A folded model beside plain Detectron2 with softmax: the same operations in the same order."""

from __future__ import annotations

import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from measure import Row, alternate
from torch.utils._python_dispatch import TorchDispatchMode

from cases.method import CONFIG, images, infer, lvis_model
from iif_d2.checkpoint import fold_checkpoint
from iif_d2.checkpoint.fold import plain_config
from iif_d2.config import load_config


def run(options):
    folded = fold_checkpoint(lvis_model("IIF", options.device))
    cfg = get_cfg()
    cfg.merge_from_other_cfg(plain_config(load_config(CONFIG), folded))
    cfg.MODEL.DEVICE = options.device
    # Untrained, every class scores 1 / 1204: at 1e-4 Detectron2's NMS would be most of the time.
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.05
    cfg.TEST.DETECTIONS_PER_IMAGE = 50
    models = {}
    for side in ("ours", "theirs"):
        torch.manual_seed(0)
        models[side] = build_model(cfg).eval()
    models["ours"].load_state_dict(folded["model"], strict=False)
    head = {side: predictor_operations(model) for side, model in models.items()}
    batch = images(options.device)
    sides = {side: (lambda model=model: infer(model, batch)) for side, model in models.items()}
    same = head["ours"] == head["theirs"] and modules(models["ours"]) == modules(models["theirs"])
    yield Row(
        "a folded model's inference",
        f"plain Detectron2's modules, {len(head['ours'])} operations in the box predictor",
        reference="Detectron2 with softmax",
        identical=same,
        note="identical: modules and the box predictor's operations",
        **alternate(sides, 20 if options.full else 5, options.device, 1),
    )


def modules(model: torch.nn.Module) -> list[str]:
    return [f"{name}: {type(module)}" for name, module in model.named_modules()]


@torch.no_grad()
def predictor_operations(model: torch.nn.Module) -> list[str]:
    predictor = model.roi_heads.box_predictor
    features = torch.randn(4, predictor.cls_score.in_features, device=model.device)
    with Operations() as operations:
        predictor.predict_probs(predictor(features), [features])
    return operations.names


class Operations(TorchDispatchMode):
    """The names of all tensor operations while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))

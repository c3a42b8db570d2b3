"""From the config's MODEL and METHOD nodes to a `Recognizer`."""

from __future__ import annotations

from functools import partial

from fvcore.common.config import CfgNode
from torch import nn

from iif_d2.errors import ConfigError
from iif_d2.frequency import ClassFrequency

from .backbones import backbone
from .classifiers import build_classifier
from .experts import ExpertBackbone, ExpertClassifiers
from .methods import build_configured_method
from .recognizer import Recognizer


def build_model(cfg: CfgNode, frequency: ClassFrequency) -> Recognizer:
    """The model of this config over these classes, with new weights; see `freeze`.

    Raises:
        ConfigError: unknown names, or keys that do not go together.
    """
    model, classes = cfg.MODEL, len(frequency)
    recipe = backbone(model.BACKBONE)
    if model.EXPERTS < 1:
        raise ConfigError(f"MODEL.EXPERTS is {model.EXPERTS}; it must be at least 1")
    trunk = partial(recipe.trunk, model.REDUCED_WIDTH)
    body = (
        recipe.whole()
        if model.EXPERTS == 1
        else ExpertBackbone(recipe.stem(), trunk, model.EXPERTS)
    )
    method = build_configured_method(cfg, frequency, body.num_features)
    heads = [
        build_classifier(model.CLASSIFIER, body.num_features, classes, model.COSINE_SCALE)
        for _ in range(model.EXPERTS)
    ]
    for head in heads:
        if isinstance(head, nn.Linear):
            method.init_classifier(head)
    recognizer = Recognizer(body, heads[0] if len(heads) == 1 else ExpertClassifiers(heads), method)
    freeze(recognizer, model.FREEZE)
    return recognizer


def freeze(recognizer: Recognizer, part: str) -> None:
    """Stop the gradients of `part`.

    Args:
        part: "" (nothing), "stages" (the backbone but its last stage), "backbone", or "model" (all
            but the method).

    Raises:
        ConfigError: another part.
    """
    if part not in ("", "stages", "backbone", "model"):
        raise ConfigError(
            f"MODEL.FREEZE is {part!r}; it may be '', 'stages', 'backbone' or 'model'"
        )
    if part:
        recognizer.backbone.requires_grad_(False)
    if part == "stages":
        stages = [m for m in recognizer.backbone.children() if any(True for _ in m.parameters())]
        stages[-1].requires_grad_(True)
    if part == "model":
        recognizer.classifier.requires_grad_(False)


def set_mode(recognizer: Recognizer, cfg: CfgNode) -> None:
    """Train mode; a frozen backbone's BatchNorm stays in it too unless MODEL.FREEZE_BN."""
    recognizer.train()
    if cfg.MODEL.FREEZE and cfg.MODEL.FREEZE_BN:
        recognizer.backbone.eval()

"""timm's networks under Detectron2's FPN: shapes, what is frozen, norms, weights, training."""

import logging
import sys

import pytest
import timm
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import nn

from iif_d2.checkpoint import load_trained_model
from iif_d2.engine import LongTailTrainer
from iif_d2.errors import CheckpointError, ConfigError, UnknownNameError
from iif_d2.modeling import TimmBackbone

FAMILIES = (
    "resnet18",
    "regnety_002",
    "convnext_atto",
    "tf_efficientnet_lite0",
    "mobilenetv3_small_050",
    "swin_tiny_patch4_window7_224",  # fixed in size, channels last, stochastic in depth
)
CONFIG = "mask_rcnn_lite0_FPN_iif"


def image(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(seed))


def step(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sum(feature.square().mean() for feature in model(image()).values()).backward()
    optimizer.step()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_pyramid_over_a_backbone_whose_first_stages_do_not_learn(name, tiny_cfg):
    torch.manual_seed(0)
    overrides = ["MODEL.TIMM.NAME", name, "MODEL.BACKBONE.FREEZE_AT", "2", "MODEL.TIMM.NORM", "BN"]
    cfg = tiny_cfg(CONFIG, *overrides, "MODEL.TIMM.PRETRAINED", "")
    fpn = build_backbone(cfg).train()
    assert fpn.size_divisibility == 32
    shapes = {key: tuple(feature.shape) for key, feature in fpn(image()).items()}
    sides = {"p2": (16, 24), "p3": (8, 12), "p4": (4, 6), "p5": (2, 3), "p6": (1, 2)}
    assert shapes == {key: (2, 16, *side) for key, side in sides.items()}
    assert fpn.output_shape() == {
        f"p{k}": ShapeSpec(channels=16, stride=2**k) for k in (2, 3, 4, 5, 6)
    }

    backbone = fpn.bottom_up
    theirs = timm.create_model(name, features_only=True).feature_info
    assert [shape.channels for shape in backbone.output_shape().values()] == theirs.channels()[-4:]
    assert [shape.stride for shape in backbone.output_shape().values()] == [4, 8, 16, 32]
    before = backbone(image(1)), {k: v.clone() for k, v in backbone.state_dict().items()}
    step(fpn)
    learning = {k: p for k, p in backbone.named_parameters() if p.requires_grad}
    assert all(p.grad is not None for p in learning.values())
    moved = {k for k, v in backbone.state_dict().items() if not torch.equal(v, before[1][k])}
    frozen = {k for k, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen and not frozen & moved
    after = backbone(image(1))  # in training, after a step, and nothing else changed it
    assert torch.equal(after["res2"], before[0]["res2"])
    assert torch.equal(backbone.eval()(image(1))["res2"], after["res2"])
    assert not torch.equal(after["res3"], before[0]["res3"])


@pytest.mark.parametrize(
    "freeze_at, frozen",
    [(0, ()), (1, ("conv1", "bn1")), (3, ("conv1", "bn1", "layer1", "layer2"))],
)
def test_freeze_at_counts_as_in_detectron2s_resnet(freeze_at, frozen):
    backbone = TimmBackbone("resnet18", freeze_at=freeze_at, norm="BN")
    for key, parameter in backbone.net.named_parameters():
        assert parameter.requires_grad != key.startswith(frozen), key
    for key, module in backbone.train().net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.training != key.startswith(frozen), key


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
@pytest.mark.parametrize("norm", ["FrozenBN", "BN", "GN"])
def test_the_norm(name, norm):
    torch.manual_seed(0)
    backbone = TimmBackbone(name, freeze_at=0, norm=norm).train()
    norms = {
        k: m for k, m in backbone.named_modules() if isinstance(m, (nn.BatchNorm2d, nn.GroupNorm))
    }
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    step(backbone)
    moved = {k for k, v in backbone.state_dict().items() if not torch.equal(v, before[k])}
    statistics = {key for key in before if "running" in key}
    scales = {f"{key}.weight" for key in norms}
    assert norms and scales <= before.keys()
    assert bool(statistics & moved) == (norm == "BN")
    assert bool(scales & moved) == (norm != "FrozenBN")
    assert all(isinstance(m, nn.GroupNorm) == (norm == "GN") for m in norms.values())
    inside = [m for m in norms.values() if hasattr(m, "act") and isinstance(m.act, nn.ReLU6)]
    assert bool(inside) == (name == "tf_efficientnet_lite0")
    for module in inside:  # group norm in its place keeps its activation
        x = torch.randn(2, module.weight.numel(), 4, 4) * 5
        assert module(x).min() == 0 and module(x).max() <= 6


@pytest.mark.parametrize(
    "name, kwargs, error, message",
    [
        ("vit_tiny_patch16_224", {}, ConfigError, "no feature res2, res3, res5 .* but res4"),
        ("maxvit_tiny_rw_224", {}, ConfigError, "does not take pictures of any size.*window"),
        ("inception_v3", {}, ConfigError, r"\(1, 192, 20, 36\) of a picture"),
        ("resnet", {}, UnknownNameError, "MODEL.TIMM.NAME 'resnet' is no network of timm .*it has resnet"),
        ("hf-hub:timm/resnet18", {}, UnknownNameError, "is no network of timm"),
        ("resnet18.nobody", {}, UnknownNameError, "known: resnet18, resnet18.a1_in1k"),
        ("convnext_atto", {"norm": "GN"}, ConfigError, "convnext_atto has no batch norm"),
        ("resnet18", {"norm": "SyncBN"}, UnknownNameError, "MODEL.TIMM.NORM 'SyncBN'; known: Fro"),
        ("resnet18", {"norm": "GN", "pretrained": "x.pth"}, ConfigError, "GN, which .* x.pth do not"),
        ("resnet18", {"out_features": ["p2"]}, ConfigError, "resnet18 has no feature p2"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(name, kwargs, error, message):
    with pytest.raises(error, match=message):
        TimmBackbone(name, **kwargs)


def test_p6_needs_the_coarsest_feature(tiny_cfg):
    cfg = tiny_cfg(CONFIG, "MODEL.FPN.IN_FEATURES", "['res2','res3']")
    with pytest.raises(ConfigError, match="MODEL.FPN.IN_FEATURES is .*up to res5"):
        build_backbone(cfg)


def test_without_timm_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match="pip install 'timm>=1.0'"):
        TimmBackbone("resnet18")


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
def test_timms_own_state_dict_loads_by_its_names(name, tmp_path):
    torch.manual_seed(1)
    sizes = {"dynamic_img_size": True} if "swin" in name else {}
    whole = timm.create_model(name, num_classes=7, **sizes).eval()
    for key, buffer in whole.named_buffers():
        if "running" in key:
            buffer.uniform_(0.5, 2)
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    backbone = TimmBackbone(name, pretrained=str(tmp_path / "weights.pth")).eval()
    theirs = whole.forward_intermediates(image(), intermediates_only=True)[-4:]
    for ours, feature in zip(backbone(image()).values(), theirs):
        torch.testing.assert_close(ours, feature)


def test_a_file_that_does_not_fit_is_refused(tmp_path):
    path = str(tmp_path / "weights.pth")

    def refused(state, message):
        torch.save(state, path)
        with pytest.raises(CheckpointError, match=rf"MODEL.TIMM.PRETRAINED {path}: {message}"):
            TimmBackbone("resnet18", pretrained=path)

    own = timm.create_model("resnet18").state_dict()
    refused(
        timm.create_model("resnet34").state_dict(), "layer1.2.conv1.weight is no name of timm's"
    )
    refused(timm.create_model("resnet18d").state_dict(), r"conv1.0.weight is no name of timm's res")
    refused(
        {k: v for k, v in own.items() if "layer4" not in k}, r"layer4.0.conv1.weight and \d+ more"
    )
    refused(
        {**own, "bn1.bias": torch.zeros(3)},
        r"bn1.bias has shape \(3,\), and timm's resnet18 has \(64,\)",
    )
    refused([1], "it is no state dict")
    with pytest.raises(
        CheckpointError, match="PRETRAINED gone.pth: there is no such file; .* to ''"
    ):
        TimmBackbone("resnet18", pretrained="gone.pth")


def test_pictures_unlike_those_of_the_pretraining_are_logged(tiny_cfg, tmp_path, caplog):
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), tmp_path / "weights.pth")
    overrides = ["MODEL.TIMM.NAME", "mobilenetv3_small_050", "MODEL.TIMM.PRETRAINED", str(tmp_path / "weights.pth")]  # fmt: skip
    wanted = ["MODEL.PIXEL_MEAN", "[123.675, 116.28, 103.53]", "MODEL.PIXEL_STD", "[58.395, 57.12, 57.375]"]  # fmt: skip
    logger = logging.getLogger("iif_d2.modeling.timm_backbone")
    logger.addHandler(caplog.handler)  # Detectron2's root does not propagate
    try:
        build_backbone(tiny_cfg(CONFIG, *overrides, *wanted))
        assert "pretrained" not in caplog.text
        build_backbone(tiny_cfg(CONFIG, *overrides, *wanted, "INPUT.FORMAT", "BGR"))
        assert 'INPUT.FORMAT "RGB" MODEL.PIXEL_MEAN "[123.675, 116.28, 103.53]"' in caplog.text
        caplog.clear()
        build_backbone(tiny_cfg(CONFIG, *overrides))
        assert 'MODEL.PIXEL_STD "[58.395, 57.12, 57.375]"' in caplog.text
    finally:
        logger.removeHandler(caplog.handler)


def test_it_trains_resumes_and_evaluates_and_then_needs_no_pretrained_file(tiny_cfg, tmp_path):
    source = tmp_path / "lite0.pth"
    original = timm.create_model("tf_efficientnet_lite0")
    torch.save(original.state_dict(), source)
    overrides = ["MODEL.TIMM.PRETRAINED", str(source), "SOLVER.CHECKPOINT_PERIOD", "1"]
    trainer = LongTailTrainer(tiny_cfg(CONFIG, *overrides, "SOLVER.MAX_ITER", "1"))
    trainer.resume_or_load(resume=False)
    stem = trainer.model.backbone.bottom_up.net.conv_stem.weight
    assert torch.equal(stem, original.conv_stem.weight)
    trainer.train()
    assert not torch.equal(stem, original.conv_stem.weight)

    trainer = LongTailTrainer(tiny_cfg(CONFIG, *overrides))
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 1
    results = trainer.train()
    assert {"bbox", "segm"} <= results.keys()

    source.unlink()
    weights = str(tmp_path / "out" / "model_final.pth")
    model = load_trained_model(tiny_cfg(CONFIG, *overrides, "MODEL.WEIGHTS", weights))
    saved = trainer.model.state_dict()
    resumed = load_trained_model(tiny_cfg(CONFIG, *overrides), resume=True).state_dict()
    assert all(torch.equal(value, saved[key]) for key, value in resumed.items())
    assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())

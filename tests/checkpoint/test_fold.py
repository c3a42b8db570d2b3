"""Folded checkpoints against plain Detectron2, which is the oracle."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances

from iif_d2 import apply_method, count_class_frequency, fold_checkpoint
from iif_d2.checkpoint import LongTailCheckpointer, load_trained_model, plain_config
from iif_d2.checkpoint.fold import TOLERANCE
from iif_d2.commands import main
from iif_d2.config import load_config
from iif_d2.errors import CheckpointError, ConfigError
from iif_d2.frequency import ClassFrequency
from iif_d2.methods import METHOD_REGISTRY, DeferredFrequency, build_method
from iif_d2.modeling import LongTailPredictorMixin

from ..conftest import TINY
from ..methods.helpers import random_frequency

KINDS = {
    "mask_rcnn_R_18_FPN_iif": ("StandardROIHeads", 1),
    "mask_rcnn_R_18_C4_iif": ("Res5ROIHeads", 1),
    "cascade_mask_rcnn_R_18_FPN_iif": ("CascadeROIHeads", 3),
}
OPTIONS = {
    "Softmax": [{}],
    "IIF": [
        {},
        {"variant": "base10", "statistic": "instance"},
        {"post_hoc": True, "strength": 0.5},
        {"post_hoc": True, "group_strength": (0.5, 0.25, 1.0)},
    ],
    "NorCal": [{}, {"mode": "probs"}, {"mode": "logits"}, {"weighting": "cb"}],
    "LogitAdjustment": [{}, {"post_hoc": True}, {"post_hoc": True, "normalized": False}],
    "FRACAL": [{}, {"lam": 0.5, "with_frequency": False}],
    "PCB": [{}, {"base": "IIF"}],
    "LogN": [{}],
    "LOS": [{}],
    "EBL": [{}],
    "BalancedSoftmax": [{}],
    "LADE": [{}],
    "Sigmoid": [{}],
    "EQL": [{}],
    "DropLoss": [{}],
    "FedLoss": [{}],
}
REFUSED = {
    "Seesaw": "Seesaw cannot be folded: its scores are the product of two softmaxes",
    "EQLv2": r"EQLv2 cannot be folded: its scores are sigma\(z_c\) \(1 - sigma\(z_b\)\)",
    "ECM": r"ECM cannot be folded: its scores are sigma\(z_c\) \(1 - sigma\(z_b\)\)",
    "GOL": "GOL cannot be folded: its scores are the Gumbel's",
    "APA": "APA cannot be folded: its scores are a parametric activation's",
    "FCBL": r"FCBL cannot be folded: its scores are sigma\(z_c\) \(1 - sigma\(z_b\)\)",
    "FRACALSigmoid": "FRACALSigmoid cannot be folded: its scores are the product of two sigmoids",
    "DisAlign": "DisAlign cannot be folded: .* depends on the features",
}
DETECTION = [name for name, method in METHOD_REGISTRY if method.supports_background]
CASES = [
    (name, options)
    for name in DETECTION
    if build_method(name, random_frequency(5)).not_affine is None
    for options in OPTIONS.get(name, [{}])
]
SIGMOID, FED_LOSS = "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", "MODEL.ROI_BOX_HEAD.USE_FED_LOSS"
COUNTS = ("image_count", "instance_count", "num_images", "class_groups")


def image():
    return torch.randint(0, 255, (3, 64, 64), generator=torch.Generator().manual_seed(3)).float()


@torch.no_grad()
def detections(model):
    found = model.eval()([{"image": image(), "height": 64, "width": 64}])[0]["instances"]
    assert len(found) > 3
    return found


def stages(model):
    return [module for module in model.modules() if isinstance(module, FastRCNNOutputLayers)]


@torch.no_grad()
def scores(stage, seed):
    """One stage's (20, C+1) probabilities for random features."""
    draws = torch.Generator().manual_seed(seed)
    features = torch.randn(20, stage.cls_score.in_features, generator=draws)
    proposals = Instances((9, 9), proposal_boxes=Boxes(torch.zeros(20, 4)))
    return stage.predict_probs(stage(features), [proposals])[0]


def trained(cfg):
    """A model whose class logits spread over several units, as after training."""
    torch.manual_seed(0)
    model = build_model(cfg)
    with torch.no_grad():
        for stage in stages(model):
            stage.cls_score.weight.normal_(std=2 / stage.cls_score.in_features**0.5)
            stage.cls_score.bias.normal_()
    return model


def give_method(model, name, frequency, **options):
    apply_method(model, build_method(name, frequency, **options))
    for index, stage in enumerate(stages(model)):
        if name == "LogN":  # every stage has moments of its own
            draws = torch.Generator().manual_seed(index)
            stage.method.observe(torch.randn(50, 5, generator=draws) * (1 + index) - 2)
    return model


def plain_model(cfg, checkpoint, path):
    """Detectron2's own model, loaded by Detectron2's own checkpointer: every key, and no other."""
    plain_cfg = get_cfg()
    plain_cfg.merge_from_other_cfg(plain_config(cfg, checkpoint, str(path)))
    model = build_model(plain_cfg)
    saved = torch.load(path, weights_only=True)["model"]
    assert saved.keys() == model.state_dict().keys()
    DetectionCheckpointer(model).load(str(path), checkpointables=[])
    return model


def assert_same_scores(found, expected):
    for index, (theirs, ours) in enumerate(zip(found, expected, strict=True)):
        wanted = scores(ours, index)
        torch.testing.assert_close(scores(theirs, index), wanted, rtol=0, atol=TOLERANCE)


def assert_same_detections(found, expected):
    assert torch.equal(found.pred_classes, expected.pred_classes)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=TOLERANCE)
    boxes = found.pred_boxes.tensor, expected.pred_boxes.tensor
    torch.testing.assert_close(*boxes, rtol=0, atol=1e-3)


def predictor(method=None, make=FastRCNNOutputLayers):
    torch.manual_seed(0)
    transform = Box2BoxTransform((10, 10, 5, 5))
    layers = make(ShapeSpec(channels=7), box2box_transform=transform, num_classes=5)
    torch.nn.init.normal_(layers.cls_score.weight)
    if method is not None:
        apply_method(layers, method)
    return layers


# -- the scale and the shift ---------------------------------------------------------------------


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("name", [key for key, _ in METHOD_REGISTRY])
def test_affine_gives_the_methods_probabilities_or_a_reason(name, background, frequency):
    kind = METHOD_REGISTRY.get(name)
    if not (kind.supports_background if background else kind.supports_no_background):
        return
    draws = torch.Generator().manual_seed(0)
    for options in OPTIONS.get(name, [{}]):
        method = build_method(name, frequency, background, **options)
        logits = torch.randn(30, method.num_logits, generator=draws, dtype=torch.float64) * 3
        if name == "LogN":
            method.observe(logits - 1)
        try:
            scale, shift = method.affine()
        except ConfigError as error:
            assert str(error).startswith(f"{name} cannot be folded") and name not in OPTIONS
            continue
        assert scale.dtype == shift.dtype == np.float64
        assert scale.shape == shift.shape == (5 + background,)
        logits = torch.nn.functional.pad(logits, (0, len(scale) - logits.shape[1]), value=7.0)
        adjusted = logits * torch.tensor(scale) + torch.tensor(shift)
        found = adjusted.sigmoid() if method.sigmoid_scores else adjusted.softmax(dim=1)
        expected = method.probabilities(logits[:, : method.num_logits])
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_every_method_is_either_folded_or_refused():
    folded = {name for name, _ in CASES}
    assert OPTIONS.keys() <= folded and REFUSED.keys() <= set(DETECTION) - folded


# -- against plain Detectron2 --------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_plain_detectron2_predicts_the_same_in_every_stage(kind, tiny_cfg, dataset_name, tmp_path):
    cfg, path = tiny_cfg(kind, "MODEL.MASK_ON", "False"), tmp_path / "folded.pth"
    frequency = count_class_frequency(dataset_name, dimension=True)
    model = trained(cfg)
    heads, count = KINDS[kind]
    for name in ("IIF", "FedLoss"):  # by way of the file, the config and Detectron2's checkpointer
        give_method(model, name, frequency)
        checkpoint = fold_checkpoint(model, path)
        assert checkpoint["folded"]["config"] == {
            "MODEL.ROI_HEADS.NAME": heads, SIGMOID: name == "FedLoss", FED_LOSS: False,
        }  # fmt: skip
        plain = plain_model(cfg, checkpoint, path)
        assert type(plain.roi_heads).__name__ == heads and len(stages(plain)) == count
        assert not any(isinstance(stage, LongTailPredictorMixin) for stage in stages(plain))
        assert_same_scores(stages(plain), stages(model))
        assert_same_detections(detections(plain), detections(model))
    for name, options in CASES:
        give_method(model, name, frequency, **options)
        checkpoint = fold_checkpoint(torch.nn.ModuleList(stages(model)))
        torch.nn.ModuleList(stages(plain)).load_state_dict(checkpoint["model"])
        for stage in stages(plain):
            stage.use_sigmoid_ce = checkpoint["folded"]["config"][SIGMOID]
        assert_same_scores(stages(plain), stages(model))


def test_folding_leaves_the_model_alone(tiny_cfg):
    model = trained(tiny_cfg())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = fold_checkpoint(model)["model"]
    with torch.no_grad():
        found["roi_heads.box_predictor.bbox_pred.bias"].fill_(7)
    for key, value in model.state_dict().items():
        assert key.endswith(COUNTS) or torch.equal(value, before[key]), key


WITHOUT_THIS_PACKAGE = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "iif_d2":
            raise ImportError(name)
sys.meta_path.insert(0, Block())
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.modeling import build_model
yaml, inputs, outputs = sys.argv[1:]
cfg = get_cfg()
cfg.merge_from_file(yaml)
model = build_model(cfg).eval()
DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
with torch.no_grad():
    found = model(torch.load(inputs))[0]["instances"]
assert "iif_d2" not in sys.modules
torch.save([found.pred_boxes.tensor, found.scores, found.pred_classes, found.pred_masks], outputs)
"""


def test_command_writes_what_loads_without_this_package(tiny_cfg, tmp_path, capsys, caplog):
    model = trained(tiny_cfg("cascade_mask_rcnn_R_18_FPN_iif"))
    expected = detections(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    LongTailCheckpointer(model, str(tmp_path), optimizer=optimizer).save("model", iteration=7)
    original, folded = tmp_path / "model.pth", tmp_path / "folded.pth"
    before = original.read_bytes()
    line = [
        "fold", "--config-file", "Mini-InstanceSegmentation/cascade_mask_rcnn_R_18_FPN_iif.yaml",
        "--output", str(folded), *TINY, "OUTPUT_DIR", str(tmp_path / "out"),
        "MODEL.WEIGHTS", str(original),
    ]  # fmt: skip
    assert main(line) == 0
    said = capsys.readouterr().out
    for part in (folded, folded.with_suffix(".yaml"), "IIF", "MODEL.ROI_HEADS.NAME CascadeROIHeads",
                 f"{SIGMOID} False"):  # fmt: skip
        assert str(part) in said
    assert original.read_bytes() == before
    # "out" holds the class counts, unless an earlier test has had them counted.
    written = {path.name for path in tmp_path.iterdir()} - {"out"}
    assert written == {"model.pth", "folded.pth", "folded.yaml", "last_checkpoint"}
    saved = torch.load(folded, weights_only=True)
    assert saved.keys() == {"model", "folded", "config", "class_frequency"}
    assert not any("method" in key for key in saved["model"])
    assert "OUTPUT_DIR" not in folded.with_suffix(".yaml").read_text()
    torch.save([{"image": image(), "height": 64, "width": 64}], tmp_path / "inputs.pt")
    subprocess.run(
        [sys.executable, "-c", WITHOUT_THIS_PACKAGE, str(folded.with_suffix(".yaml")),
         str(tmp_path / "inputs.pt"), str(tmp_path / "outputs.pt")],
        check=True,
    )  # fmt: skip
    boxes, scores, classes, masks = torch.load(tmp_path / "outputs.pt")
    torch.testing.assert_close(boxes, expected.pred_boxes.tensor, rtol=0, atol=1e-3)
    torch.testing.assert_close(scores, expected.scores, rtol=0, atol=TOLERANCE)
    assert torch.equal(classes, expected.pred_classes) and torch.equal(masks, expected.pred_masks)

    caplog.clear()
    plain = load_config(str(folded.with_suffix(".yaml")), ["MODEL.DEVICE", "cpu"])
    load_trained_model(plain)  # the method is in its weights: there is nothing to warn of
    assert "takes no method" not in caplog.text

    line[line.index("--output") + 1] = str(original)
    assert main(line) == 2 and "is the checkpoint to fold" in capsys.readouterr().err
    assert original.read_bytes() == before
    line[line.index("--output") + 1], line[-1] = str(tmp_path / "twice.pth"), str(folded)
    assert main(line) == 2 and "has IIF folded in already" in capsys.readouterr().err
    assert not (tmp_path / "twice.pth").exists()
    assert main(line[:-2]) == 2 and "set MODEL.WEIGHTS" in capsys.readouterr().err


# -- the predictor alone -------------------------------------------------------------------------


def test_rows_are_scaled_in_float64_and_rounded_once(frequency):
    layers = predictor(build_method("IIF", frequency))
    state = fold_checkpoint(layers)["model"]
    weights = np.append(np.log(141 / np.array([90, 40, 10, 1, 1])), 1.0)
    for key, factor in (("weight", weights[:, None]), ("bias", weights)):
        raw = getattr(layers.cls_score, key).detach().double().numpy()
        assert state[f"cls_score.{key}"].dtype == torch.float32
        expected = (raw * factor).astype(np.float32)
        np.testing.assert_allclose(state[f"cls_score.{key}"].numpy(), expected, rtol=1e-7)
    half = fold_checkpoint(layers.half())["model"]
    assert half["cls_score.weight"].dtype == torch.float32
    assert half["bbox_pred.weight"].dtype == torch.float16


def test_the_padded_row_never_scores_and_never_spoils(frequency):
    """Detectron2 drops a proposal whose row holds a number that is not finite, padding or not."""
    layers = predictor(build_method("Sigmoid", frequency))
    with torch.no_grad():
        layers.cls_score.weight[-1] = 1e30
    plain = predictor()
    plain.use_sigmoid_ce = True
    plain.load_state_dict(fold_checkpoint(layers)["model"])
    assert torch.equal(scores(plain, 0)[:, -1], torch.zeros(20))
    assert_same_scores([plain], [layers])


def test_rows_that_another_method_needed_are_left_out(frequency):
    layers = predictor(build_method("Seesaw", frequency))
    assert layers.cls_score.out_features == 7
    apply_method(layers, build_method("IIF", frequency))
    plain = predictor()
    plain.load_state_dict(fold_checkpoint(layers)["model"])
    assert_same_scores([plain], [layers])


def test_frequencies_are_counted_when_needed(frequency):
    counted = []

    def resolve():
        counted.append(True)
        return frequency

    layers = predictor(build_method("NorCal", DeferredFrequency(5, resolve, "some data")))
    expected = fold_checkpoint(predictor(build_method("NorCal", frequency)))["model"]
    assert not counted
    found = fold_checkpoint(layers)["model"]
    assert counted and all(torch.equal(found[key], value) for key, value in expected.items())


def test_what_came_with_detectron2s_fedloss_is_left_out(frequency):
    def with_fed_loss(*args, **kwargs):
        weights = torch.ones(5)
        return FastRCNNOutputLayers(
            *args, **kwargs, use_sigmoid_ce=True, use_fed_loss=True,
            get_fed_loss_cls_weights=lambda: weights,
        )  # fmt: skip

    checkpoint = fold_checkpoint(predictor(build_method("FedLoss", frequency), with_fed_loss))
    assert checkpoint["folded"]["config"] == {
        SIGMOID: True, FED_LOSS: False,
    }  # fmt: skip
    assert checkpoint["model"].keys() == predictor().state_dict().keys()


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_scale_or_shift_is_refused_with_the_reason(name, frequency):
    with pytest.raises(ConfigError, match=REFUSED[name]):
        fold_checkpoint(predictor(build_method(name, frequency)))


def test_other_refusals_have_a_reason_too(frequency, tiny_cfg, tmp_path):
    layers = predictor()
    with pytest.raises(ConfigError, match="no box predictor of the model has a method"):
        fold_checkpoint(layers)
    apply_method(layers, build_method("IIF", frequency))
    layers.set_method(layers.method, "cosine")
    with pytest.raises(ConfigError, match="plain Detectron2's is linear, CosineLinear is not"):
        fold_checkpoint(layers)
    with pytest.raises(ConfigError, match="NorCal cannot be folded: with renorm=False"):
        fold_checkpoint(predictor(build_method("NorCal", frequency, mode="probs", renorm=False)))
    with pytest.raises(ConfigError, match="LogN has observed no logits yet"):
        fold_checkpoint(predictor(build_method("LogN", frequency)))
    with pytest.raises(ConfigError, match="must end in .pth"):
        fold_checkpoint(layers, tmp_path / "folded.pkl")
    with pytest.raises(ConfigError, match="give the config"):
        fold_checkpoint(tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="does not exist"):
        fold_checkpoint(tmp_path / "model.pth", cfg=tiny_cfg())
    diverged = predictor(build_method("IIF", frequency))
    torch.nn.init.constant_(diverged.cls_score.bias, float("nan"))
    with pytest.raises(CheckpointError, match="cls_score has numbers that are not finite"):
        fold_checkpoint(diverged)


def test_a_predictor_with_ways_of_its_own_is_refused(frequency):
    class Doubled(FastRCNNOutputLayers):
        def forward(self, x):
            scores, deltas = super().forward(x)
            return 2 * scores, deltas

    with pytest.raises(ConfigError, match="Doubled has its own way"):
        fold_checkpoint(predictor(build_method("IIF", frequency), Doubled))


def test_a_part_that_plain_detectron2_lacks_is_refused(frequency):
    from iif_d2.modeling import CosineLinear

    model = torch.nn.ModuleDict(
        {"box": predictor(build_method("IIF", frequency)), "mask": CosineLinear(3, 2)}
    )
    with pytest.raises(ConfigError, match="no CosineLinear, which mask is"):
        fold_checkpoint(model)


def test_stages_that_no_one_key_describes_are_refused(frequency):
    methods = [build_method(name, frequency) for name in ("IIF", "Sigmoid")]
    with pytest.raises(ConfigError, match="some stages score by sigmoid"):
        fold_checkpoint(torch.nn.ModuleList([predictor(method) for method in methods]))


def test_checkpoints_that_are_not_enough_are_refused(tiny_cfg, tmp_path):
    source = tmp_path / "counts.json"
    counts = ClassFrequency(("a", "b", "c", "d"), [5, 4, 2, 1], None, 9)
    counts.save(source)
    overrides = ("MODEL.MASK_ON", "False", "DATASETS.TRAIN", "()")
    cfg = tiny_cfg("mask_rcnn_R_18_FPN_iif", *overrides)
    model = trained(cfg)
    plain_state = {k: v for k, v in model.state_dict().items() if ".method." not in k}
    path, output = tmp_path / "model.pth", tmp_path / "folded.pth"
    torch.save({"model": plain_state}, path)
    with pytest.raises(CheckpointError, match="no class frequencies.*MODEL.LONG_TAIL.FREQUENCY"):
        fold_checkpoint(path, output, cfg)
    assert not output.exists()
    cfg = tiny_cfg("mask_rcnn_R_18_FPN_iif", *overrides, "MODEL.LONG_TAIL.FREQUENCY", str(source))
    found = fold_checkpoint(path, output, cfg)["model"]["roi_heads.box_predictor.cls_score.weight"]
    raw = plain_state["roi_heads.box_predictor.cls_score.weight"]
    np.testing.assert_allclose(found[3], raw[3] * np.log(12), rtol=1e-6)
    other = tiny_cfg("mask_rcnn_R_18_FPN_iif", *overrides, "MODEL.ROI_HEADS.NUM_CLASSES", "9")
    with pytest.raises(CheckpointError, match="has 4 classes, MODEL.ROI_HEADS.NUM_CLASSES is 9"):
        fold_checkpoint(path, output, other)
    backbone = {k: v for k, v in plain_state.items() if k.startswith("backbone")}
    torch.save({"model": backbone}, path)
    with pytest.raises(CheckpointError, match="lacks .* more; fold a trained model"):
        fold_checkpoint(path, output, cfg)
    link = tmp_path / "link.pth"
    link.symlink_to(path)
    with pytest.raises(ConfigError, match="is the checkpoint to fold"):
        fold_checkpoint(path, link, cfg)

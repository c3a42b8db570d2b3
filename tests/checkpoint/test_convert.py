"""Converted weights give the features of the originals, and other networks are refused."""

import pickle
import zipfile

import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
import torchvision
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import build_resnet_backbone

from iif_d2.checkpoint import (
    LongTailCheckpointer,
    convert_resnet,
    convert_resnet_file,
    convert_timm_file,
)
from iif_d2.commands import main
from iif_d2.errors import CheckpointError, ConfigError
from iif_d2.modeling import TimmBackbone

SOURCES = {"torchvision": torchvision.models.get_model, "timm": timm.create_model}


def random_network(library: str, name: str) -> torch.nn.Module:
    """In evaluation, with batch norms that change what goes through them."""
    torch.manual_seed(0)
    network = SOURCES[library](name).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1)
            module.bias.data.normal_(std=0.5)
            module.running_mean.normal_(std=0.5)
            module.running_var.uniform_(0.5, 2)
    return network


def detectron2_resnet(config) -> torch.nn.Module:
    cfg = get_cfg()
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    for key, value in config.items():
        cfg.merge_from_list([key, value])
    return build_resnet_backbone(cfg, ShapeSpec(channels=3))


@torch.no_grad()
@pytest.mark.parametrize(
    "library, name",
    [
        ("torchvision", "resnet50"),
        ("torchvision", "resnet101"),
        ("torchvision", "resnext101_32x8d"),
        ("torchvision", "resnext101_64x4d"),
        ("timm", "resnet50"),
        ("timm", "resnext101_32x8d"),
    ],
)
def test_features_are_those_of_the_original(library, name):
    network = random_network(library, name)
    weights, config = convert_resnet(network.state_dict())
    with torch.device("meta"):
        backbone = detectron2_resnet(config).eval()
    backbone.load_state_dict(weights, assign=True)
    image = torch.randn(1, 3, 64, 64)
    features = backbone(image)
    x = network.maxpool(torch.relu(network.bn1(network.conv1(image))))
    for stage in range(1, 5):
        x = getattr(network, f"layer{stage}")(x)
        assert x.std() > 0.1
        torch.testing.assert_close(features[f"res{stage + 1}"], x, rtol=1e-5, atol=1e-5)


def test_the_file_loads_into_a_detector_and_the_command_prints_what_fits(tmp_path, capsys):
    original = random_network("timm", "resnet18").state_dict()
    torch.save({"state_dict": original}, tmp_path / "18.pth")
    safetensors.torch.save_file(original, tmp_path / "18.safetensors")
    detector = torch.nn.Module()
    detector.backbone = torch.nn.Module()
    for source in ("18.pth", "18.safetensors"):
        output = tmp_path / f"{source}.d2.pth"
        assert main(["convert", str(tmp_path / source), "--output", str(output)]) == 0
        said = capsys.readouterr().out
        assert f"MODEL.WEIGHTS {output}" in said and "MODEL.RESNETS.DEPTH 18" in said
        assert "INPUT.FORMAT RGB" in said and "MODEL.RESNETS.STRIDE_IN_1X1 False" in said
        weights, config = convert_resnet(original)
        detector.backbone.bottom_up = detectron2_resnet(config)  # as an FPN detector has it
        LongTailCheckpointer(detector).load(str(output))
        loaded = detector.backbone.bottom_up.state_dict()
        assert loaded.keys() == weights.keys()
        assert all(torch.equal(loaded[key], weights[key]) for key in weights)


@pytest.mark.parametrize(
    "name, message",
    [
        ("seresnet50", "res2.0.se.fc1.weight has no place; .* no squeeze-and-excitation"),
        ("resnet50d", "no deep stem"),
        ("resnet50_gn", "running_mean and 105 more are missing"),
    ],
)
def test_other_networks_are_refused(name, message):
    with torch.device("meta"):
        state = timm.create_model(name).state_dict()
    with pytest.raises(CheckpointError, match=message):
        convert_resnet(state)


def test_a_layer_of_another_size_is_named():
    with torch.device("meta"):
        state = torchvision.models.resnet50().state_dict()
        state["layer4.0.conv1.weight"] = torch.empty(1, 1, 1, 1)
    with pytest.raises(CheckpointError, match=r"res5.0.conv1.weight has shape \(1, 1, 1, 1\)"):
        convert_resnet(state)


class Trap:
    def __reduce__(self):
        return open, ("/nowhere/executed", "w")


def test_files_that_are_no_safe_state_dict_are_refused(tmp_path):
    output = str(tmp_path / "out.pth")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04cut")
    (tmp_path / "code.pth").write_bytes(pickle.dumps({"fc.weight": Trap()}))
    torch.save(random_network("torchvision", "resnet18"), tmp_path / "module.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50_000_000))
    for name, message in {
        "gone.pth": "there is no such file",
        "cut.pth": "read safely, or is cut short",
        "code.pth": "read safely",
        "module.pth": r"torch.save\(model.state_dict\(\)",
        "list.pth": "is no state dict",
        "bomb.pth": "would grow to 50,000,000 bytes",
    }.items():
        with pytest.raises(CheckpointError, match=f"{name}: .*{message}"):
            convert_resnet_file(str(tmp_path / name), output)
    with pytest.raises(ConfigError, match="must end in .pth"):
        convert_resnet_file(str(tmp_path / "gone.pth"), "out.pkl")
    assert not (tmp_path / "out.pth").exists()


# EfficientNet-Lite0 by its paper's table: blocks, kernel, stride of the first, expansion, channels.
LITE0 = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip


class Lite0:
    """EfficientNet-PyTorch's, written out: its names in the order of computation, random weights."""

    def __init__(self):
        self.state, self.generator = {}, torch.Generator().manual_seed(0)
        self.conv("_conv_stem", 32, 3, 3), self.norm("_bn0", 32)
        before, block = 32, 0
        for blocks, kernel, _, expansion, channels in LITE0:
            for _ in range(blocks):
                name, middle = f"_blocks.{block}.", before * expansion
                if expansion > 1:
                    self.conv(f"{name}_expand_conv", middle, before, 1)
                    self.norm(f"{name}_bn0", middle)
                self.conv(f"{name}_depthwise_conv", middle, 1, kernel)
                self.norm(f"{name}_bn1", middle)
                self.conv(f"{name}_project_conv", channels, middle, 1)
                self.norm(f"{name}_bn2", channels)
                before, block = channels, block + 1
        self.conv("_conv_head", 1280, 320, 1), self.norm("_bn1", 1280)
        self.state["_fc.weight"], self.state["_fc.bias"] = (
            torch.zeros(1000, 1280),
            torch.zeros(1000),
        )

    def conv(self, name, out, into, kernel):
        shape = out, into, kernel, kernel
        scale = (2 / (into * kernel**2)) ** 0.5
        self.state[f"{name}.weight"] = torch.randn(shape, generator=self.generator) * scale

    def norm(self, name, channels):
        for key, low in (
            ("weight", 0.5),
            ("bias", -0.5),
            ("running_mean", -0.5),
            ("running_var", 0.5),
        ):
            values = torch.rand(channels, generator=self.generator) + low
            self.state[f"{name}.{key}"] = values
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(1)

    def features(self, x):
        """Of each stage."""
        x, block, features = self.run(x, "_conv_stem", "_bn0", stride=2).clamp(0, 6), 0, []
        for blocks, _, stride, expansion, _ in LITE0:
            for index in range(blocks):
                name, y = f"_blocks.{block}.", x
                if expansion > 1:
                    y = self.run(y, f"{name}_expand_conv", f"{name}_bn0").clamp(0, 6)
                y = self.run(
                    y, f"{name}_depthwise_conv", f"{name}_bn1", 1 if index else stride, y.shape[1]
                ).clamp(0, 6)
                y = self.run(y, f"{name}_project_conv", f"{name}_bn2")
                x, block = y + x if index else y, block + 1
            features.append(x)
        return features

    def run(self, x, conv, norm, stride=1, groups=1):
        """A convolution padded as TensorFlow does, more at the end, and its batch norm."""
        weight, padding = self.state[f"{conv}.weight"], []
        for side in (x.shape[3], x.shape[2]):
            total = max((-(-side // stride) - 1) * stride + weight.shape[-1] - side, 0)
            padding += [total // 2, total - total // 2]
        x = F.conv2d(F.pad(x, padding), weight, stride=stride, groups=groups)
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(self.state[f"{norm}.{key}"] for key in names), eps=1e-3)


@torch.no_grad()
def test_a_lite0_of_other_names_becomes_timms_in_the_order_of_its_modules(tmp_path, capsys):
    original, output = Lite0(), str(tmp_path / "lite0.pth")
    torch.save(original.state, tmp_path / "original.pth")
    options = ["--timm", "tf_efficientnet_lite0", "--output", output]
    assert main(["convert", str(tmp_path / "original.pth"), *options]) == 0
    said = capsys.readouterr().out
    assert f"MODEL.TIMM.PRETRAINED {output}" in said and "INPUT.FORMAT RGB" in said
    assert "MODEL.PIXEL_MEAN [127.5, 127.5, 127.5]" in said
    assert not any("classifier" in key for key in torch.load(output)["model"])
    backbone = TimmBackbone("tf_efficientnet_lite0", pretrained=output).eval()
    image = torch.randn(1, 3, 64, 96)
    stages = original.features(image)
    assert stages[-1].std() > 0.1
    for feature, stage in zip(backbone(image).values(), (1, 2, 4, 6)):
        torch.testing.assert_close(feature, stages[stage], rtol=1e-4, atol=1e-4)


def test_what_is_not_in_timms_order_is_refused(tmp_path):
    def refused(state, message, name="tf_efficientnet_lite0"):
        torch.save(state, tmp_path / "weights.pth")
        with pytest.raises(CheckpointError, match=f"weights.pth: {message}"):
            convert_timm_file(str(tmp_path / "weights.pth"), str(tmp_path / "out.pth"), name)

    state = Lite0().state
    refused(
        state, "it has 296 tensors, and timm's tf_efficientnet_lite1 386", "tf_efficientnet_lite1"
    )
    names = list(state)
    first, second = (
        names.index("_blocks.1._bn0.weight"),
        names.index("_blocks.1._depthwise_conv.weight"),
    )
    names[first], names[second] = names[second], names[first]
    swapped = {name: state[name] for name in names}
    refused(swapped, r"_blocks.1._depthwise_conv.weight with shape \(96, 1, 3, 3\) is where timm's")
    names = list(state)
    first, second = names.index("_bn0.running_mean"), names.index("_bn0.running_var")
    names[first], names[second] = names[second], names[first]
    refused(
        {name: state[name] for name in names}, "_bn0.running_var with shape .* bn1.running_mean"
    )
    refused({**state, "_fc.weight": torch.zeros(10, 1280)}, "_fc.weight with shape")
    assert not (tmp_path / "out.pth").exists()


def test_timms_own_state_dict_keeps_its_names_and_loses_its_classifier(tmp_path):
    original = timm.create_model("resnet18").state_dict()
    torch.save(original, tmp_path / "18.pth")
    output = str(tmp_path / "out.pth")
    config = convert_timm_file(str(tmp_path / "18.pth"), output, "resnet18.a1_in1k")
    assert config["MODEL.PIXEL_MEAN"] == [123.675, 116.28, 103.53]
    kept = torch.load(output)["model"]
    assert kept.keys() == {key for key in original if not key.startswith("fc.")}
    assert all(torch.equal(value, original[key]) for key, value in kept.items())
    with pytest.raises(
        CheckpointError, match=r"18.pth: layer1.0.conv1.weight .* timm's resnet50 has"
    ):
        convert_timm_file(str(tmp_path / "18.pth"), output, "resnet50")
    with pytest.raises(ConfigError, match="no network of timm"):
        convert_timm_file(str(tmp_path / "18.pth"), output, "resnet")

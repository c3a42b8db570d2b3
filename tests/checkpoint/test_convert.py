"""Converted ResNets give the features of the originals, and what is no plain ResNet is refused."""

import pickle
import zipfile

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import build_resnet_backbone

from iif_d2.checkpoint import LongTailCheckpointer, convert_resnet, convert_resnet_file
from iif_d2.commands import main
from iif_d2.errors import CheckpointError, ConfigError

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

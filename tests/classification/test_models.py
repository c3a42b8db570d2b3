"""Backbones and classifiers against written-out references, experts, RIDE's loss."""

import math

import pytest
import torch
import torch.nn.functional as F
from iif_classification.config import load_config
from iif_classification.methods_config import OWN_METHODS
from iif_classification.modeling import CosineClassifier, NormedClassifier, build_model
from iif_classification.modeling.backbones import BACKBONES, backbone
from iif_classification.modeling.cifar_resnet import BasicBlock, CifarResNet, SqueezeExcite

from iif_d2.errors import ConfigError, UnknownNameError
from iif_d2.frequency import ClassFrequency
from iif_d2.methods import METHOD_REGISTRY, default_options


@pytest.fixture
def counts():
    return ClassFrequency(tuple("abcd"), [200, 50, 10, 5], None, 265)


def test_se_block_is_two_bias_free_layers_on_the_pixel_mean():
    torch.manual_seed(0)
    block, x = SqueezeExcite(16), torch.randn(3, 16, 5, 5)
    assert [tuple(p.shape) for p in block.parameters()] == [(4, 16), (16, 4)]
    first, second = block.parameters()
    expected = torch.empty_like(x)
    for image in range(3):
        squeezed = torch.stack([x[image, c].sum() / 25 for c in range(16)])
        hidden = (first @ squeezed).clamp(min=0)
        gate = 1 / (1 + torch.exp(-(second @ hidden)))
        for channel in range(16):
            expected[image, channel] = x[image, channel] * gate[channel]
    torch.testing.assert_close(block(x), expected)


def test_block_excites_after_the_last_norm_and_shortcut_a_pads_with_zeros():
    torch.manual_seed(0)
    block, x = BasicBlock(16, 32, 2, squeeze_excite=True), torch.randn(2, 16, 8, 8)
    assert not list(block.shortcut.parameters())
    branch = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
    branch = block.se(branch)
    shortcut = torch.zeros(2, 32, 4, 4)
    for channel in range(16):
        for row in range(4):
            for column in range(4):
                shortcut[:, 8 + channel, row, column] = x[:, channel, 2 * row, 2 * column]
    torch.testing.assert_close(block(x), F.relu(branch + shortcut))


def test_resnet32_has_the_published_size_and_se_adds_its_two_layers():
    plain, excited = CifarResNet(5), CifarResNet(5, squeeze_excite=True)
    convolutions = [m for m in plain.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 31  # with the classifier: 32 layers
    size = sum(p.numel() for p in plain.parameters())
    assert size + 64 * 10 + 10 == 464_154  # 0.46 M (He et al., 2016, table 6)
    added = 5 * 2 * (16 * 4 + 32 * 8 + 64 * 16)
    assert sum(p.numel() for p in excited.parameters()) == size + added
    assert plain(torch.zeros(2, 3, 32, 32)).shape == (2, 64)


@pytest.mark.parametrize("name", sorted(set(BACKBONES) - {"resnet8", "se_resnet8", "resnet152"}))
def test_backbones_and_their_experts_fit_together(name):
    with torch.device("meta"):
        recipe, images = backbone(name), torch.zeros(2, 3, 64, 64)
        whole = recipe.whole()
        assert whole(images).shape == (2, whole.num_features)
        trunk = recipe.trunk(0.75)
        assert trunk.num_features == 0.75 * whole.num_features
        assert trunk(recipe.stem()(images)).shape == (2, trunk.num_features)


def test_timm_se_block_is_ours_with_reduction_16():
    torch.manual_seed(0)
    resnet = backbone("se_resnet50").whole().eval()
    block, x = resnet.layer2[1], torch.randn(2, 512, 4, 4)
    with torch.no_grad():
        block.bn3.weight.fill_(1.0)  # timm starts it at 0, which would hide the branch
        branch = block.act1(block.bn1(block.conv1(x)))
        branch = block.bn3(block.conv3(block.act2(block.bn2(block.conv2(branch)))))
        reference = SqueezeExcite(512, 16)
        reference.reduce.weight.copy_(block.se.fc1.weight.flatten(1))
        reference.expand.weight.copy_(block.se.fc2.weight.flatten(1))
        torch.testing.assert_close(block(x), F.relu(reference(branch) + x))
    assert block.se.fc1.bias is None and block.se.fc2.bias is None
    plain = backbone("resnet50").whole()
    extra = sum(p.numel() for p in resnet.parameters()) - sum(p.numel() for p in plain.parameters())
    blocks = ((256, 3), (512, 4), (1024, 6), (2048, 3))
    assert extra == sum(n * 2 * c * c // 16 for c, n in blocks)


def test_cosine_classifiers_by_their_formulas():
    torch.manual_seed(0)
    x = torch.randn(4, 8) * 3
    squashed, normed = CosineClassifier(8, 5, 16.0), NormedClassifier(8, 5, 30.0)
    for row in range(4):
        for column in range(5):
            length = math.sqrt(float((x[row] ** 2).sum()))
            for classifier, divisor, scale in ((squashed, 1 + length, 16), (normed, length, 30)):
                w = classifier.weight[column].detach()
                z = scale * float(w @ x[row]) / float(w.norm()) / divisor
                assert float(classifier(x)[row, column].detach()) == pytest.approx(z, rel=1e-4)
    with pytest.raises(ConfigError, match="COSINE_SCALE"):
        CosineClassifier(8, 5, 0.0)


def test_learnt_scale_learns_and_a_fixed_one_is_no_parameter(counts):
    sizes = {}
    for name in ("cosine", "learnt_cosine", "linear"):
        cfg = load_config("", ["MODEL.BACKBONE", "se_resnet8", "MODEL.CLASSIFIER", name])
        head = build_model(cfg, counts).classifier
        sizes[name] = sum(p.numel() for p in head.parameters())
        head(torch.ones(2, 64)).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())
    assert sizes == {"cosine": 256, "learnt_cosine": 257, "linear": 260}


def test_a_learnt_scale_is_a_square():
    head = CosineClassifier(8, 5, 25.0, learn_scale=True)
    assert head.root.item() == 5 and head.scale.item() == 25
    fixed = CosineClassifier(8, 5, 25.0)
    fixed.weight = head.weight
    x = torch.randn(3, 8)
    assert torch.equal(head(x), fixed(x))
    head(x).sum().backward()
    expected = 2 * 5 * float(head(x).detach().sum()) / 25
    assert float(head.root.grad) == pytest.approx(expected, rel=1e-4)


def test_places_trains_the_last_stage_and_the_head(counts):
    cfg = load_config("", ["MODEL.BACKBONE", "se_resnet8", "MODEL.FREEZE", "stages"])
    model = build_model(cfg, counts)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    stage = list(model.backbone.children())[-1]
    last = {id(p) for p in (*stage.parameters(), *model.classifier.parameters())}
    assert last and trained == {n for n, p in model.named_parameters() if id(p) in last}
    assert len(trained) < len(list(model.parameters()))
    with pytest.raises(ConfigError, match="'stages'"):
        build_model(load_config("", ["MODEL.FREEZE", "stem"]), counts)


def test_every_option_is_a_key_and_the_recipes_differ_where_they_say():
    nodes = {key: node for key, node in load_config("").METHOD.items() if isinstance(node, dict)}
    methods = {name: m for name, m in METHOD_REGISTRY if m.supports_no_background} | OWN_METHODS
    differ = {}
    for name, method in methods.items():
        node, default = nodes.pop(name, {}), default_options(method)
        assert {key.lower() for key in node} == default.keys(), name
        differ |= {f"{name}.{k}": v for k, v in node.items() if v != default[k.lower()]}
    assert not nodes and differ == {"IIF.VARIANT": "smooth", "DisAlign.RHO": 1.2}


@pytest.mark.parametrize("name", [*(name for name, _ in METHOD_REGISTRY), "RIDE"])
def test_every_method_without_a_background_trains_and_predicts(name, counts):
    if name != "RIDE" and not METHOD_REGISTRY.get(name).supports_no_background:
        pytest.skip("for detection")
    experts = 3 if name == "RIDE" else 1
    options = ["MODEL.BACKBONE", "resnet8", "METHOD.NAME", name, "MODEL.EXPERTS", experts]
    model = build_model(load_config("", options), counts)
    images, labels = torch.randn(6, 3, 32, 32), torch.tensor([0, 0, 1, 2, 3, 0])
    loss = model(images, labels)
    assert loss.dim() == 0 and loss.isfinite()
    loss.backward()
    assert next(model.classifier.parameters()).grad.abs().sum() > 0
    if hasattr(model.method, "observe"):
        model.method.observe(model.logits(images))
    probabilities = model.eval()(images)
    assert probabilities.shape == (6, 4) and (probabilities >= 0).all()


def test_experts_without_ride_sum_their_losses_and_test_their_mean(counts):
    torch.manual_seed(0)
    options = ["MODEL.BACKBONE", "resnet8", "METHOD.NAME", "IIF", "MODEL.EXPERTS", 2]
    model = build_model(load_config("", options), counts).eval()
    images, labels = torch.randn(5, 3, 32, 32), torch.tensor([0, 1, 2, 3, 0])
    logits = model.classifier(model.backbone(images))
    assert logits.shape == (5, 2, 4)
    each = sum(model.method.loss(logits[:, k], labels) for k in range(2))
    torch.testing.assert_close(model(images, labels), each)
    torch.testing.assert_close(model(images), model.method.probabilities(logits.mean(1)))


def test_ride_is_ldam_minus_diversity_and_defers_its_weights(counts):
    torch.manual_seed(0)
    options = ["METHOD.NAME", "RIDE", "MODEL.EXPERTS", 3, "MODEL.BACKBONE", "resnet8"]
    options += ["MODEL.COSINE_SCALE", 30, "SOLVER.EPOCHS", 10, "METHOD.DEFERRED_FROM", 0.5]
    method = build_model(load_config("", options), counts).method
    assert method.scale == 30 and method.deferred_epoch == 5
    logits, labels = torch.randn(6, 3, 4) * 5, torch.tensor([0, 0, 1, 2, 3, 1])
    n = torch.tensor([200.0, 50, 10, 5])
    margin = 0.5 * (5 / n) ** 0.25
    effective = (1 - 0.9999) / (1 - 0.9999 ** n.double())
    share = 0.95 + 0.05 * 4 * n / n.sum()
    for epoch, weight, t in (
        (4, torch.ones(4), torch.ones(4)),
        (5, effective.float(), share / share.max()),
    ):
        method.set_epoch(epoch)
        expected = 0.0
        mean = F.softmax(logits.mean(1) / t, dim=1)
        for k in range(3):
            z = logits[:, k].clone()
            z[torch.arange(6), labels] -= 30 * margin[labels]
            rows = -F.log_softmax(z, dim=1)[torch.arange(6), labels]
            expected += float((weight[labels] * rows).sum() / weight[labels].sum())
            q = F.softmax(logits[:, k] / t, dim=1)
            divergence = (mean * (mean / q).log()).sum(1).mean()
            expected -= 0.45 * float(t.mean()) ** 2 * float(divergence)
        assert float(method.loss(logits, labels)) == pytest.approx(expected, rel=1e-4)


def test_unknown_names_are_listed(counts):
    for key in ("MODEL.BACKBONE", "MODEL.CLASSIFIER", "METHOD.NAME"):
        with pytest.raises(UnknownNameError, match="known:"):
            build_model(load_config("", ["MODEL.BACKBONE", "resnet8", key, "nonsense"]), counts)
    with pytest.raises(ConfigError, match="METHOD.NAMES"):
        load_config("", ["METHOD.NAMES", "IIF"])
    with pytest.raises(ConfigError, match="no config file"):
        load_config("nowhere.yaml")

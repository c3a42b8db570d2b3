"""Eq. 4, 5 and 6: IIF's logits, probabilities and gradient."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from iif_d2.errors import ConfigError, UnknownNameError
from iif_d2.frequency import ClassFrequency
from iif_d2.methods import IIF, DeferredFrequency, build_method, iif_weights

from .helpers import (
    assert_same,
    each_case,
    mean_cross_entropy,
    random_batch,
    random_frequency,
    seen,
    softmax,
)


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(9, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3


LABELS = torch.tensor([0, 1, 2, 3, 4, 5, 5, 0, 2])


def test_eq_4_scales_the_foreground_and_leaves_the_background(frequency, logits):
    method = build_method("IIF", frequency)
    adjusted = method.adjust(logits)
    for row in range(len(logits)):
        for c, p in enumerate(max(n, 1) / 141 for n in (90, 40, 10, 1, 0)):
            assert adjusted[row, c].item() == pytest.approx(-logits[row, c].item() * math.log(p))
        assert adjusted[row, 5].item() == logits[row, 5].item()


@pytest.mark.parametrize("post_hoc", [False, True])
@each_case
def test_loss_and_probabilities_are_the_formula(num_classes, background, post_hoc):
    """w_c = 1 + ln((N + 1) / (n_c + 1)) (smooth, which gives a lone class a weight) times z_c."""
    frequency = random_frequency(num_classes)
    method = build_method("IIF", frequency, background, variant="smooth", post_hoc=post_hoc)
    logits, labels = random_batch(method)
    total = sum(int(n) for n in frequency.image_count)
    weights = [1 + math.log((total + 1) / (n + 1)) for n in seen(frequency)] + [1.0] * background
    rows = [[w * z for w, z in zip(weights, row)] for row in logits.tolist()]
    assert_same(method.adjust(logits), rows)
    assert_same(method.probabilities(logits), [softmax(row) for row in rows])
    trained = logits.tolist() if post_hoc else rows
    assert_same(method.loss(logits, labels), mean_cross_entropy(trained, labels.tolist()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_background_logit_arrives_bit_for_bit(frequency, dtype):
    logits = torch.tensor([[1.0, 2, 3, 4, 5, bg] for bg in (0.1, -0.0, 1e-40, -3e38, math.inf)])
    logits = logits.to(dtype)
    adjusted = build_method("IIF", frequency).adjust(logits)
    kind = torch.int32 if dtype == torch.float32 else torch.int64
    assert torch.equal(adjusted[:, 5].view(kind), logits[:, 5].view(kind))


def test_eq_5_is_the_softmax_of_powers_of_p(frequency, logits):
    q = build_method("IIF", frequency).probabilities(logits)
    p = [max(n, 1) / 141 for n in (90, 40, 10, 1, 0)]
    for row, z in enumerate(logits.tolist()):
        below = math.exp(z[5]) + sum(p[j] ** -z[j] for j in range(5))
        for c in range(5):
            assert q[row, c].item() == pytest.approx(p[c] ** -z[c] / below, rel=1e-12)
        assert q[row, 5].item() == pytest.approx(math.exp(z[5]) / below, rel=1e-12)


def test_eq_6_is_the_gradient(frequency, logits):
    method = build_method("IIF", frequency)
    logits.requires_grad_()
    method.loss(logits, LABELS).backward()
    q = method.probabilities(logits.detach())
    weights = [*iif_weights(frequency).tolist(), 1.0]
    for row, label in enumerate(LABELS.tolist()):
        for i in range(6):
            expected = weights[i] * (q[row, i].item() - (i == label)) / len(LABELS)
            assert logits.grad[row, i].item() == pytest.approx(expected, abs=1e-15)


def test_gradcheck(frequency, logits):
    method = build_method("IIF", frequency)
    assert torch.autograd.gradcheck(
        lambda z: method.loss(z, LABELS), logits.clone().requires_grad_()
    )


def test_at_equal_probability_the_positive_gradient_grows_as_p_falls():
    grown = []
    for n in (90, 40, 10, 1):
        method = build_method("IIF", ClassFrequency(("a", "b"), [n, 100 - n], None, 200))
        # Logits that make the two adjusted logits, and so the probabilities, equal for every n.
        z = (torch.ones(1, 3, dtype=torch.float64) / method.weight).requires_grad_()
        method.loss(z, torch.tensor([0])).backward()
        grown.append(-z.grad[0, 0].item())
    assert grown == sorted(grown) and grown[0] < grown[-1] / 10


def test_equal_weights_of_one_are_softmax(logits):
    # base10 of one tenth is 1: ten classes, equally frequent.
    method = build_method(
        "IIF", ClassFrequency(map(str, range(10)), [5] * 10, None, 50), variant="base10"
    )
    softmax = build_method("Softmax", method.frequency)
    z = torch.randn(7, 11, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 3, 10, 9, 10, 1, 2])
    assert torch.equal(method.probabilities(z), softmax.probabilities(z))
    assert torch.equal(method.loss(z, labels), softmax.loss(z, labels))


def test_post_hoc_trains_as_softmax_and_tests_as_iif(frequency, logits):
    method = build_method("IIF", frequency, post_hoc=True)
    assert torch.equal(method.loss(logits, LABELS), F.cross_entropy(logits, LABELS))
    trained = build_method("IIF", frequency)
    assert torch.equal(method.probabilities(logits), trained.probabilities(logits))
    assert not torch.equal(method.loss(logits, LABELS), trained.loss(logits, LABELS))


def test_without_background_all_columns_are_scaled(frequency, logits):
    method = build_method("IIF", frequency, background=False)
    assert method.num_logits == 5
    z = logits[:, :5]
    expected = z * torch.tensor(iif_weights(frequency))
    assert torch.equal(method.adjust(z), expected)
    assert torch.equal(method.probabilities(z), expected.softmax(1))


def test_half_precision_is_computed_in_float32(frequency, logits):
    method = build_method("IIF", frequency)
    half = logits.to(torch.bfloat16)
    assert method.probabilities(half).dtype == torch.float32
    assert torch.equal(method.loss(half, LABELS), method.loss(half.float(), LABELS))
    method.half()  # a model cast as a whole keeps exact weights
    assert torch.equal(method.adjust(logits), build_method("IIF", frequency).adjust(logits))


def test_state_carries_the_frequencies_and_they_decide(frequency, logits):
    trained = build_method("IIF", frequency)
    other = ClassFrequency(frequency.class_names, [5, 6, 7, 8, 9], [9] * 5, 40)
    loaded = build_method("IIF", other)
    loaded.load_state_dict(trained.state_dict())
    assert torch.equal(loaded.adjust(logits), trained.adjust(logits))
    assert loaded.loaded_frequency.same_counts(frequency)
    loaded.use_source()
    assert torch.equal(loaded.adjust(logits), build_method("IIF", other).adjust(logits))


def test_a_state_without_frequencies_loads_without_complaint(frequency, logits):
    method = build_method("IIF", frequency)
    result = method.load_state_dict({}, strict=True)
    assert not result.missing_keys and method.loaded_frequency is None
    assert torch.equal(method.adjust(logits), build_method("IIF", frequency).adjust(logits))


def test_deferred_frequencies_are_counted_once_and_late(frequency, logits):
    calls = []
    deferred = DeferredFrequency(5, lambda: calls.append(1) or frequency, "later")
    method = build_method("IIF", deferred)
    state = method.state_dict()
    assert not calls
    fresh = build_method("IIF", deferred)
    fresh.load_state_dict(state)  # saved before its first use: brings nothing
    assert fresh.loaded_frequency is None and not calls
    method.adjust(logits), method.loss(logits, LABELS)
    assert calls == [1]
    counted = {name: values.clone() for name, values in method.state_dict().items()}
    method.load_state_dict(build_method("IIF", deferred).state_dict())
    # Its own counts stay, for the next checkpoint too.
    for name, values in method.state_dict().items():
        assert torch.equal(values, counted[name])
    promised = build_method("IIF", DeferredFrequency(4, lambda: frequency, "later"))
    with pytest.raises(ConfigError, match="NUM_CLASSES is 4, but later has 5 classes"):
        promised.adjust(logits[:, :5])


def test_wrong_arguments_are_named(frequency, logits):
    with pytest.raises(UnknownNameError, match="unknown method 'iif'; known:.*IIF"):
        build_method("iif", frequency)
    with pytest.raises(
        ConfigError, match="IIF has no option 'gamma'; it has: group_strength, normalizer"
    ):
        build_method("IIF", frequency, gamma=1)
    with pytest.raises(ConfigError, match=r"shape \(R, 6\), not \(9, 5\)"):
        IIF(frequency).adjust(logits[:, :5])


def test_a_detector_starts_at_chance():
    torch.manual_seed(0)
    classifier = torch.nn.Linear(256, 61, bias=False)
    torch.nn.init.normal_(classifier.weight, std=0.01)
    counts = [max(3, int(450 * 0.92**index)) for index in range(60)]
    method = build_method("IIF", ClassFrequency(map(str, range(60)), counts, None, 2000))
    features = torch.randn(200, 256).relu() * 3
    labels = torch.randint(0, 61, (200,))
    before = method.loss(classifier(features), labels).item()
    method.init_classifier(classifier)
    after = method.loss(classifier(features), labels).item()
    assert after == pytest.approx(math.log(61), rel=0.03) and before > 1.1 * after


def test_a_cosine_classifier_keeps_its_length(frequency):
    """Its logits would be the same, its first steps ten times as long."""
    pytest.importorskip("detectron2")
    from iif_d2.modeling.cosine import CosineLinear

    classifier = CosineLinear(8, 6)
    before = classifier.weight.clone()
    build_method("IIF", frequency).init_classifier(classifier)
    assert torch.equal(classifier.weight, before)


def test_strength_is_the_exponent_of_the_factor(frequency, logits):
    whole, weights = build_method("IIF", frequency), iif_weights(frequency)
    assert torch.equal(
        build_method("IIF", frequency, strength=1.0).adjust(logits), whole.adjust(logits)
    )
    off = build_method("IIF", frequency, strength=0)
    assert torch.equal(off.probabilities(logits), logits.softmax(1))
    half = build_method("IIF", frequency, strength=0.5).adjust(logits)
    for c, weight in enumerate([*weights.tolist(), 1.0]):
        torch.testing.assert_close(half[:, c], logits[:, c] * math.sqrt(weight))
    for strength in (-0.1, 1.1, math.nan, "1"):
        with pytest.raises(ConfigError, match="strength must be"):
            build_method("IIF", frequency, strength=strength)


def test_each_group_may_have_its_own_strength(frequency, logits):
    """Classes of 90, 40, 10, 1 and 0 images: two common, then three rare ones by LVIS's limits."""
    weights = iif_weights(frequency)
    options = {"group_strength": (0.5, 0.25, 1.0)}
    method = build_method("IIF", frequency, **options)
    expected = [w**s for w, s in zip(weights, (0.25, 0.25, 0.5, 0.5, 0.5))]
    assert method.weight.tolist() == pytest.approx([*expected, 1.0])
    assert str(method.reads) == "softmax by IIF raw, image, sum, 0.5/0.25/1"
    method.use_groups(np.array(list("fffrr")))  # as the annotation file has them
    expected = [*weights[:3], *weights[3:] ** 0.5]
    assert method.weight.tolist() == pytest.approx([*expected, 1.0])
    alike = build_method("IIF", frequency, group_strength=(0.5, 0.5, 0.5))
    one = build_method("IIF", frequency, strength=0.5)
    torch.testing.assert_close(alike.adjust(logits), one.adjust(logits))
    for wrong in ((0.5, 0.5), (0.1, 0.2, 0.3, 0.4), (0.5, 0.5, 1.5), (0.5, -0.1, 0.5), "abc"):
        with pytest.raises(ConfigError, match="IIF: .*strength must be"):
            build_method("IIF", frequency, group_strength=wrong)

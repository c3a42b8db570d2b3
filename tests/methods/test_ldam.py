import pytest

from iif_d2.errors import ConfigError
from iif_d2.methods import build_method

from .helpers import (
    assert_same,
    cross_entropy,
    make_frequency,
    random_batch,
    random_frequency,
    seen,
    softmax,
)


def slow_loss(rows, labels, frequency, weighted, max_margin=0.5, scale=30.0, beta=0.9999):
    raw = [n**-0.25 for n in seen(frequency)]
    margin = [max_margin * m / max(raw) for m in raw]
    effective = [(1 - beta**n) / (1 - beta) for n in seen(frequency)]
    total = weights = 0.0
    for row, label in zip(rows, labels):
        row = [z - scale * margin[j] * (j == label) for j, z in enumerate(row)]
        weight = 1 / effective[label] if weighted else 1.0
        total += weight * cross_entropy(row, label)
        weights += weight
    return total / weights


@pytest.mark.parametrize("options", [{}, {"max_margin": 0.2, "scale": 10.0, "beta": 0.99}])
@pytest.mark.parametrize("num_classes", [1, 2, 1203])
def test_loss_is_the_formula_before_and_after_reweighting(num_classes, options):
    frequency = random_frequency(num_classes)
    method = build_method("LDAM", frequency, background=False, deferred_epoch=3, **options)
    logits, labels = random_batch(method)
    rows = logits.tolist()
    for epoch in (0, 2, 3, 4):
        method.set_epoch(epoch)
        expected = slow_loss(rows, labels.tolist(), frequency, epoch >= 3, **options)
        assert_same(method.loss(logits, labels), expected)
    assert_same(method.probabilities(logits), [softmax(row) for row in rows])


def test_margin_0_is_softmax_until_reweighting():
    method = build_method("LDAM", random_frequency(5), background=False, max_margin=0)
    logits, labels = random_batch(method)
    expected = build_method("Softmax", random_frequency(5), background=False)
    assert_same(method.loss(logits, labels), expected.loss(logits, labels))


def test_equal_counts_need_no_reweighting():
    method = build_method("LDAM", make_frequency([9, 9, 9]), background=False)
    logits, labels = random_batch(method)
    before = method.loss(logits, labels)
    method.set_epoch(160)
    assert_same(method.loss(logits, labels), before)


def test_the_epoch_survives_a_checkpoint():
    method = build_method("LDAM", random_frequency(5), background=False)
    method.set_epoch(160)
    other = build_method("LDAM", random_frequency(5), background=False)
    other.load_state_dict(method.state_dict())
    logits, labels = random_batch(method)
    assert_same(other.loss(logits, labels), method.loss(logits, labels), tolerance=0)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="LDAM is for classification"):
        build_method("LDAM", random_frequency(3))
    with pytest.raises(ConfigError, match="beta must be below 1"):
        build_method("LDAM", random_frequency(3), background=False, beta=1.0)

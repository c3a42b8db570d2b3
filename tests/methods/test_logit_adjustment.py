import math

import pytest
import torch

from iif_d2.errors import ConfigError
from iif_d2.methods import build_method, iif_weights

from .helpers import (
    assert_same,
    each_background,
    each_case,
    make_frequency,
    mean_cross_entropy,
    random_batch,
    random_frequency,
    seen,
    softmax,
)


def slow_shift(frequency, tau=1.0, normalized=True):
    total = sum(int(n) for n in frequency.image_count) if normalized else 1
    return [tau * math.log(n / total) for n in seen(frequency)]


def shifted(rows, shift, sign):
    """The background, beyond the shift's classes, stays."""
    return [[z + sign * s for z, s in zip(row, shift)] + row[len(shift) :] for row in rows]


@pytest.mark.parametrize("options", [{}, {"tau": 0.4}, {"tau": 2.0, "normalized": False}])
@each_case
def test_loss_is_the_formula_and_test_is_softmax(num_classes, background, options):
    frequency = random_frequency(num_classes)
    method = build_method("LogitAdjustment", frequency, background, **options)
    logits, labels = random_batch(method)
    rows = shifted(logits.tolist(), slow_shift(frequency, **options), +1)
    assert_same(method.loss(logits, labels), mean_cross_entropy(rows, labels.tolist()))
    assert torch.equal(method.adjust(logits), logits)
    assert_same(method.probabilities(logits), [softmax(row) for row in logits.tolist()])


@pytest.mark.parametrize("options", [{}, {"tau": 0.4}, {"tau": 2.0, "normalized": False}])
@each_case
def test_post_hoc_has_softmaxs_loss_and_shifts_at_test(num_classes, background, options):
    frequency = random_frequency(num_classes)
    method = build_method("LogitAdjustment", frequency, background, post_hoc=True, **options)
    logits, labels = random_batch(method)
    expected = build_method("Softmax", frequency, background).loss(logits, labels)
    assert torch.equal(method.loss(logits, labels), expected)
    rows = shifted(logits.tolist(), slow_shift(frequency, **options), -1)
    assert_same(method.adjust(logits), rows)
    assert_same(method.probabilities(logits), [softmax(row) for row in rows])


@pytest.mark.parametrize("post_hoc", [True, False])
@each_background
def test_tau_0_is_softmax(background, post_hoc):
    frequency = random_frequency(6)
    method = build_method("LogitAdjustment", frequency, background, tau=0.0, post_hoc=post_hoc)
    expected = build_method("Softmax", frequency, background)
    logits, labels = random_batch(method)
    assert torch.equal(method.loss(logits, labels), expected.loss(logits, labels))
    assert torch.equal(method.probabilities(logits), expected.probabilities(logits))


def test_equal_counts_without_background_is_softmax():
    frequency = make_frequency([7, 7, 7])
    method = build_method("LogitAdjustment", frequency, background=False)
    logits, labels = random_batch(method)
    expected = build_method("Softmax", frequency, background=False)
    assert_same(method.loss(logits, labels), expected.loss(logits, labels))


def test_post_hoc_shift_is_tau_times_the_raw_iif_weight():
    frequency = random_frequency(8)
    method = build_method("LogitAdjustment", frequency, tau=1.7, post_hoc=True)
    shift = method.adjust(torch.zeros(1, 9, dtype=torch.float64))[0]
    assert_same(shift, [*(1.7 * iif_weights(frequency)), 0.0])


def test_the_constant_matters_only_with_a_background():
    frequency = random_frequency(4)
    for background in (True, False):
        losses = []
        for normalized in (True, False):
            method = build_method("LogitAdjustment", frequency, background, normalized=normalized)
            losses.append(method.loss(*random_batch(method)).item())
        assert (abs(losses[0] - losses[1]) > 0.1) == background


def test_negative_tau_is_refused():
    with pytest.raises(ConfigError, match="LogitAdjustment: tau must be 0 or more"):
        build_method("LogitAdjustment", random_frequency(3), tau=-1.0)

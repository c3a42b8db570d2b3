import math

import pytest
import torch

from iif_d2.errors import ConfigError, UnknownNameError
from iif_d2.methods import build_method

from .helpers import (
    assert_same,
    each_background,
    each_case,
    make_frequency,
    random_batch,
    random_frequency,
    seen,
    softmax,
)


def slow_probabilities(rows, frequency, gamma, mode, renorm=True, weighting="gamma"):
    factor = []
    for n in seen(frequency):
        if weighting == "gamma":
            factor.append(1 / n**gamma)
        else:
            factor.append((1 - gamma) / (1 - gamma**n))
    factor.append(1.0)  # the background's, where there is one
    result = []
    for row in rows:
        if mode == "logits":
            scores = softmax([a * z for a, z in zip(factor, row)])
        elif mode == "probs":
            scores = [a * p for a, p in zip(factor, softmax(row))]
        else:
            scores = [a * math.exp(z) for a, z in zip(factor, row)]
        result.append([s / sum(scores) for s in scores] if renorm else scores)
    return result


@pytest.mark.parametrize("mode", ["exps", "probs", "logits"])
@pytest.mark.parametrize("weighting", ["gamma", "cb"])
@each_case
def test_probabilities_are_the_formula(num_classes, background, mode, weighting):
    frequency = random_frequency(num_classes)
    method = build_method(
        "NorCal", frequency, background, gamma=0.45, mode=mode, weighting=weighting
    )
    logits, _ = random_batch(method)
    expected = slow_probabilities(logits.tolist(), frequency, 0.45, mode, weighting=weighting)
    assert_same(method.probabilities(logits), expected)
    assert_same(method.adjust(logits).softmax(dim=1), expected)


@each_background
def test_probs_without_renorm_leaves_products(background):
    frequency = random_frequency(5)
    method = build_method("NorCal", frequency, background, mode="probs", renorm=False)
    logits, _ = random_batch(method)
    expected = slow_probabilities(logits.tolist(), frequency, 0.6, "probs", renorm=False)
    assert_same(method.probabilities(logits), expected)


@pytest.mark.parametrize("options", [{}, {"mode": "logits"}, {"weighting": "cb"}])
@each_background
def test_gamma_0_is_off(background, options):
    method = build_method("NorCal", random_frequency(5), background, gamma=0, **options)
    logits, _ = random_batch(method)
    expected = build_method("Softmax", random_frequency(5), background)
    assert torch.equal(method.probabilities(logits), expected.probabilities(logits))


@each_background
def test_loss_is_softmaxs(background):
    method = build_method("NorCal", random_frequency(5), background)
    logits, labels = random_batch(method)
    expected = build_method("Softmax", random_frequency(5), background)
    assert torch.equal(method.loss(logits, labels), expected.loss(logits, labels))


def test_equal_counts_without_background_is_softmax():
    method = build_method("NorCal", make_frequency([9, 9, 9]), background=False)
    logits, _ = random_batch(method)
    assert_same(method.probabilities(logits), logits.softmax(dim=1))


def test_it_is_post_hoc_logit_adjustment_with_counts():
    frequency = random_frequency(6)
    method = build_method("NorCal", frequency, gamma=0.7)
    other = build_method("LogitAdjustment", frequency, tau=0.7, post_hoc=True, normalized=False)
    logits, _ = random_batch(method)
    assert_same(method.adjust(logits), other.adjust(logits))


def test_what_cannot_be_is_refused():
    frequency = random_frequency(3)
    with pytest.raises(UnknownNameError, match="unknown NorCal mode 'exp'; known: exps"):
        build_method("NorCal", frequency, mode="exp")
    with pytest.raises(UnknownNameError, match="weighting"):
        build_method("NorCal", frequency, weighting="beta")
    with pytest.raises(ConfigError, match="gamma must be below 1"):
        build_method("NorCal", frequency, weighting="cb", gamma=1.0)
    for mode in ("exps", "logits"):
        with pytest.raises(ConfigError, match="renorm"):
            build_method("NorCal", frequency, mode=mode, renorm=False)
    with pytest.raises(ConfigError, match="gamma must be 0 or more, not inf"):
        build_method("NorCal", frequency, gamma=float("inf"))
    with pytest.raises(ConfigError, match="gamma must be 0 or more"):
        build_method("NorCal", frequency, gamma=-0.1)

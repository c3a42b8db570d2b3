"""A test-time rule over a trained method, by the two formulas one after the other."""

import copy
import math

import pytest
import torch

from iif_d2.errors import ConfigError, UnknownNameError
from iif_d2.methods import build_method

from .helpers import assert_same, random_batch, random_frequency, seen, softmax

PAIRS = [
    ("IIF", {"variant": "smooth"}, "FRACAL", {"lam": 1.5}),
    ("IIF", {"variant": "smooth", "post_hoc": True}, "NorCal", {"gamma": 0.3}),
    ("BalancedSoftmax", {}, "LogitAdjustment", {"tau": 0.5, "post_hoc": True}),
    ("NorCal", {"gamma": 0.4}, "IIF", {"variant": "smooth", "post_hoc": True}),
    ("PCB", {"base": "IIF"}, "FRACAL", {"with_frequency": False}),
    ("EBL", {}, "NorCal", {}),
]
each_pair = pytest.mark.parametrize(("base", "base_options", "rule", "rule_options"), PAIRS)


def calibrated(base, base_options, rule, rule_options, num_classes=5, seed=0):
    options = {"base_options": base_options, "rule_options": rule_options}
    frequency = random_frequency(num_classes, seed)
    return build_method("Calibrated", frequency, base=base, rule=rule, **options)


@pytest.mark.parametrize("num_classes", [1, 2, 5, 1203])
def test_fracal_on_iif_is_the_formula(num_classes):
    method = calibrated(*PAIRS[0], num_classes)
    frequency = random_frequency(num_classes)
    total = sum(int(n) for n in frequency.image_count)
    factor = [math.log((total + 1) / (n + 1)) + 1 for n in seen(frequency)]
    shift = [
        math.log10(frequency.num_images / n / num_classes) - 1.5 * math.log(d)
        for n, d in zip(seen(frequency), frequency.dimension.tolist())
    ]
    logits, _ = random_batch(method)
    rows = [
        [w * z + s for w, z, s in zip(factor, row, shift)] + [background]
        for *row, background in logits.tolist()
    ]
    assert_same(method.adjust(logits), rows)
    assert_same(method.probabilities(logits), [softmax(row) for row in rows])


@each_pair
def test_the_loss_is_the_bases_and_the_test_the_rules_of_its_logits(
    base, base_options, rule, rule_options
):
    method = calibrated(base, base_options, rule, rule_options)
    alone = build_method(base, random_frequency(5), **base_options)
    over = build_method(rule, random_frequency(5), **rule_options)
    logits, labels = random_batch(method)
    for _ in range(2):  # with what the base gathers
        assert torch.equal(method.loss(logits, labels), alone.loss(logits, labels))
    expected = over.probabilities(alone.adjust(logits))
    assert torch.equal(method.probabilities(logits), expected)
    assert (method.reads, method.has_state) == (alone.reads, alone.has_state)
    scale, shift = map(torch.from_numpy, method.affine())
    assert_same((logits * scale + shift).softmax(dim=1), expected)


@each_pair
def test_a_checkpoint_of_the_base_alone_loads(base, base_options, rule, rule_options):
    """Its counts go for the rule, too, but for FRACAL, whose dimensions it lacks."""
    alone = build_method(base, random_frequency(5, seed=1), **base_options)
    logits, labels = random_batch(alone)
    alone.loss(logits, labels)
    method = calibrated(base, base_options, rule, rule_options)
    method.load_state_dict(copy.deepcopy(alone.state_dict()), strict=True)
    assert torch.equal(method.base.adjust(logits), alone.adjust(logits))
    assert torch.equal(method.loss(logits, labels), alone.loss(logits, labels))
    brought = alone.uses_frequency and rule != "FRACAL"
    over = build_method(rule, random_frequency(5, seed=int(brought)), **rule_options)
    expected = over.probabilities(alone.adjust(logits))
    assert torch.equal(method.probabilities(logits), expected)
    again = calibrated(base, base_options, rule, rule_options, seed=2)
    again.load_state_dict(method.state_dict(), strict=True)
    assert torch.equal(again.probabilities(logits), expected)


def test_the_classifier_starts_as_the_bases():
    method, alone = calibrated(*PAIRS[0]), build_method("IIF", random_frequency(5))
    layers = [torch.nn.Linear(3, 6) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    method.init_classifier(layers[0])
    alone.init_classifier(layers[1])
    assert torch.equal(layers[0].weight, layers[1].weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": "Sigmoid"}, "base Sigmoid is no softmax of adjusted logits"),
        ({"base": "Seesaw"}, "base Seesaw is no softmax"),
        ({"base": "DisAlign"}, "base DisAlign is no softmax"),
        ({"rule": "LogN"}, "rule LogN is no softmax"),
        ({"rule": "FRACALSigmoid"}, "rule FRACALSigmoid is no softmax"),
        ({"rule": "IIF"}, "rule IIF acts in training, too.*IIF.POST_HOC"),
        ({"rule": "EBL"}, "rule EBL acts in training"),
    ],
)
def test_what_cannot_stand_on_what_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build_method("Calibrated", random_frequency(3), **options)
    with pytest.raises(UnknownNameError, match="unknown method 'Softmx'"):
        build_method("Calibrated", random_frequency(3), base="Softmx")

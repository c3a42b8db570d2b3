import pytest
import torch

from iif_d2.errors import ConfigError
from iif_d2.methods import build_method

from .helpers import assert_same, cross_entropy, random_batch, random_frequency, softmax


@pytest.mark.parametrize("gamma", [None, 0.5, 1.0])
@pytest.mark.parametrize("num_classes", [1, 2, 1203])
def test_loss_is_the_formula(num_classes, gamma):
    options = {} if gamma is None else {"gamma": gamma}
    method = build_method("Focal", random_frequency(num_classes), background=False, **options)
    logits, labels = random_batch(method)
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist()):
        missed = 1 - softmax(row)[label]
        total += missed ** (2.0 if gamma is None else gamma) * cross_entropy(row, label)
    assert_same(method.loss(logits, labels), total / len(labels))
    assert_same(method.probabilities(logits), [softmax(row) for row in logits.tolist()])


def test_gamma_0_is_softmax():
    method = build_method("Focal", random_frequency(5), background=False, gamma=0)
    logits, labels = random_batch(method)
    expected = build_method("Softmax", random_frequency(5), background=False)
    assert_same(method.loss(logits, labels), expected.loss(logits, labels))


def test_a_certain_row_has_a_finite_gradient():
    method = build_method("Focal", random_frequency(2), background=False, gamma=0.5)
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    method.loss(logits, torch.tensor([0])).backward()
    assert logits.grad.isfinite().all()


def test_it_is_for_classification():
    with pytest.raises(ConfigError, match="Focal is for classification"):
        build_method("Focal", random_frequency(3))

import pytest
import torch
from torch import nn

from iif_d2.errors import ConfigError
from iif_d2.methods import build_method

from .helpers import (
    assert_same,
    cross_entropy,
    each_background,
    each_case,
    make_frequency,
    random_batch,
    random_frequency,
    seen,
    sigmoid,
    softmax,
)

DIM = 7


def trained_method(num_classes, background, **options):
    """A method whose parameters have left their start, in float64."""
    frequency = random_frequency(num_classes)
    method = build_method("DisAlign", frequency, background, feature_dim=DIM, **options).double()
    draws = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws))
    return method


def random_features(rows):
    return torch.randn(rows, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def slow_realigned(method, rows, features):
    alpha, beta = method.alpha.tolist(), method.beta.tolist()
    weight, bias = method.confidence_weight[0].tolist(), method.confidence_bias.item()
    result = []
    for row, x in zip(rows, features):
        s = sigmoid(sum(w * f for w, f in zip(weight, x)) + bias)
        new = []
        for j, z in enumerate(row):
            if j == len(alpha):
                new.append(z)
            elif method.background:
                new.append(s * (alpha[j] * z + beta[j]) + (1 - s) * z)
            else:
                new.append((1 + s * alpha[j]) * z + s * beta[j])
        result.append(new)
    return result


def slow_loss(rows, labels, frequency, rho):
    total = sum(int(n) for n in frequency.image_count)
    inverse = [(total / n) ** rho for n in seen(frequency)]
    weight = [len(inverse) * i / sum(inverse) for i in inverse] + [1.0]
    loss = sum(weight[y] * cross_entropy(row, y) for row, y in zip(rows, labels))
    return loss / len(rows)


@pytest.mark.parametrize("rho", [None, 0.3])
@each_case
def test_loss_is_the_formula(num_classes, background, rho):
    method = trained_method(num_classes, background, rho=rho)
    logits, labels = random_batch(method)
    features = random_features(len(logits))
    rows = slow_realigned(method, logits.tolist(), features.tolist())
    if rho is None:
        rho = 0.8 if background else 1.2
    expected = slow_loss(rows, labels.tolist(), random_frequency(num_classes), rho)
    assert_same(method(logits, features), rows)
    assert_same(method.loss(logits, labels, features), expected)
    # as the detection predictor calls it: realigned first, then without features
    assert_same(method.loss(method(logits, features), labels), expected)
    realigned = method(logits, features).detach()
    assert_same(method.probabilities(realigned), [softmax(row) for row in rows])


@each_background
def test_gradcheck_of_logits_and_parameters(background):
    method = trained_method(3, background)
    logits, labels = random_batch(method)
    features = random_features(len(logits))
    logits.requires_grad_()
    names = ("alpha", "beta", "confidence_weight", "confidence_bias")

    def loss(z, *parameters):
        return torch.func.functional_call(
            Loss(method), {f"method.{n}": p for n, p in zip(names, parameters)}, (z,)
        )

    class Loss(nn.Module):
        def __init__(self, method):
            super().__init__()
            self.method = method

        def forward(self, z):
            return self.method.loss(z, labels, features)

    parameters = [getattr(method, n).detach().clone().requires_grad_() for n in names]
    assert torch.autograd.gradcheck(loss, (logits, *parameters))


def test_detection_starts_where_the_first_stage_ended():
    method = build_method("DisAlign", random_frequency(5), feature_dim=DIM)
    logits, _ = random_batch(method)
    assert_same(method(logits, random_features(len(logits))), logits)


def test_rho_0_is_softmaxs_loss():
    method = build_method("DisAlign", random_frequency(5), rho=0.0)
    logits, labels = random_batch(method)
    expected = build_method("Softmax", random_frequency(5)).loss(logits, labels)
    assert_same(method.loss(logits, labels), expected)


def test_equal_counts_are_softmaxs_loss():
    method = build_method("DisAlign", make_frequency([7, 7, 7]))
    logits, labels = random_batch(method)
    expected = build_method("Softmax", make_frequency([7, 7, 7])).loss(logits, labels)
    assert_same(method.loss(logits, labels), expected)


def test_no_rows_give_every_parameter_a_zero_gradient():
    method = build_method("DisAlign", random_frequency(3), feature_dim=DIM)
    labels = torch.zeros(0, dtype=torch.int64)
    method.loss(torch.zeros(0, 4), labels, torch.zeros(0, DIM)).backward()
    for name, parameter in method.named_parameters():
        assert (parameter.grad == 0).all(), name


def test_classifier_or_checkpoint_tells_the_feature_dimension():
    method = build_method("DisAlign", random_frequency(3))
    with pytest.raises(ConfigError, match="feature_dim"):
        method(torch.zeros(1, 4), torch.zeros(1, DIM))
    method.init_classifier(nn.Linear(DIM, 4))
    other = build_method("DisAlign", random_frequency(3))
    other.load_state_dict(method.state_dict())
    logits, features = torch.randn(2, 4), torch.randn(2, DIM)
    assert torch.equal(other(logits, features), method(logits, features))


def test_forward_without_features_is_refused():
    method = build_method("DisAlign", random_frequency(3), feature_dim=DIM)
    with pytest.raises(ConfigError, match="features"):
        method(torch.zeros(1, 4))


def test_autocast_and_half_inputs_are_computed_in_float32():
    method = build_method("DisAlign", random_frequency(3), feature_dim=DIM)
    logits, features = torch.randn(4, 4).half(), torch.randn(4, DIM).half()
    expected = method(logits.float(), features.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(method(logits, features), expected)

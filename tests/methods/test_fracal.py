import math

import pytest
import torch

from iif_d2.errors import ConfigError, DataError
from iif_d2.methods import DeferredFrequency, build_method

from .helpers import (
    assert_same,
    make_frequency,
    random_batch,
    random_frequency,
    seen,
    sigmoid,
    softmax,
)

each_size = pytest.mark.parametrize("num_classes", [1, 2, 5, 1203])
each_option = pytest.mark.parametrize("options", [{}, {"lam": 0.7, "with_frequency": False}])


def frequency_part(frequency, on):
    """w_c."""
    size = len(frequency)
    shares = (frequency.num_images / n for n in seen(frequency))
    return [math.log10(s) - math.log10(size) if on else 0.0 for s in shares]


@each_option
@each_size
def test_softmax_form_is_the_formula(num_classes, options):
    frequency = random_frequency(num_classes)
    method = build_method("FRACAL", frequency, **options)
    logits, _ = random_batch(method)
    lam, part = options.get("lam", 2.0), frequency_part(frequency, options == {})
    expected = []
    for *row, background in logits.tolist():
        terms = zip(row, part, frequency.dimension.tolist())
        expected.append(softmax([z + w - lam * math.log(d) for z, w, d in terms] + [background]))
    assert_same(method.probabilities(logits), expected)


@each_option
@each_size
def test_sigmoid_form_is_the_formula(num_classes, options):
    frequency = random_frequency(num_classes)
    method = build_method("FRACALSigmoid", frequency, **options)
    logits, _ = random_batch(method)
    lam, part = options.get("lam", 2.0), frequency_part(frequency, options == {})
    powers = [d**lam for d in frequency.dimension.tolist()]
    shift = [
        w - math.log10(power / sum(powers)) - math.log10(num_classes)
        for w, power in zip(part, powers)
    ]
    expected = [
        [sigmoid(z) * sigmoid(z + s) for z, s in zip(row, shift)] + [0.0] for row in logits.tolist()
    ]
    assert_same(method.probabilities(logits), expected)


@pytest.mark.parametrize(("name", "base"), [("FRACAL", "Softmax"), ("FRACALSigmoid", "Sigmoid")])
def test_loss_is_the_bases(name, base):
    frequency = random_frequency(5)
    method = build_method(name, frequency)
    logits, labels = random_batch(method)
    expected = build_method(base, frequency).loss(logits, labels)
    assert torch.equal(method.loss(logits, labels), expected)


def test_without_either_part_it_is_softmax():
    method = build_method("FRACAL", random_frequency(5), lam=0, with_frequency=False)
    logits, _ = random_batch(method)
    assert torch.equal(method.probabilities(logits), logits.softmax(dim=1))


def test_equal_dimensions_leave_the_classes_among_themselves_as_they_were():
    frequency = make_frequency([5, 50], dimension=[1.5, 1.5])
    method = build_method("FRACALSigmoid", frequency, with_frequency=False)
    logits, _ = random_batch(method)
    assert_same(method.probabilities(logits)[:, :2], logits.sigmoid() ** 2)


def test_a_checkpoint_carries_the_dimensions():
    frequency = random_frequency(5)
    method, logits = build_method("FRACAL", frequency), torch.randn(3, 6).double()

    def gone():
        raise DataError("no json here")

    other = build_method("FRACAL", DeferredFrequency(5, gone, "far away"))
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.probabilities(logits), method.probabilities(logits))
    assert other.frequency.dimension.tolist() == frequency.dimension.tolist()


def test_counts_of_a_checkpoint_without_dimensions_are_not_mixed_with_others():
    """They are of a method that has none; counts and dimensions then both come from the data."""
    ours, theirs = random_frequency(5), random_frequency(5, seed=1)
    method = build_method("FRACAL", ours)
    expected = method.affine()[1].tolist()
    method.load_state_dict(build_method("NorCal", theirs).state_dict())
    assert method.loaded_frequency is None and method.affine()[1].tolist() == expected
    assert method.image_count.tolist() == ours.image_count.tolist()


@pytest.mark.parametrize("name", ["FRACAL", "FRACALSigmoid"])
def test_counts_without_dimensions_are_refused_and_say_what_to_do(name):
    counts = make_frequency([5, 50])
    with pytest.raises(DataError, match="no box-counting dimensions; count .* --dimension"):
        build_method(name, counts)
    deferred = build_method(name, DeferredFrequency(2, lambda: counts, "some data"))
    with pytest.raises(DataError, match="no box-counting dimensions"):
        deferred.probabilities(torch.zeros(1, deferred.num_logits))


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="lam must be 0 or more"):
        build_method("FRACAL", random_frequency(3), lam=-1)
    with pytest.raises(ConfigError, match="FRACAL is for detection"):
        build_method("FRACAL", random_frequency(3), background=False)
    for wrong in ([1.5], [1.5, 0.9], [1.5, float("nan")]):
        with pytest.raises(DataError, match="dimension"):
            make_frequency([5, 50], dimension=wrong)

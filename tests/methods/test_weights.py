"""Eq. 2 and 3: the class weights, against published numbers and their own definition."""

import logging
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from iif_d2.data.frequency import packaged_frequency
from iif_d2.errors import ConfigError, DataError, UnknownNameError
from iif_d2.frequency import ClassFrequency
from iif_d2.methods import VARIANTS, iif_weights
from iif_d2.methods import weights as weights_module

# Normalizer "images": data set, class index, then raw ... base10 on images, and raw and
# base10 on instances.
REFERENCE = [
    ("lvis_v1_train", 0, 7.35574, 8.34025, 7.35510, 3.22091, 7.35542, 10.61209, 3.19456, 9.36329, 4.06643),
    ("lvis_v1_train", 1, 5.61747, 6.61474, 5.61383, 2.68432, 5.61565, 8.10430, 2.43964, 7.06900, 3.07003),
    ("lvis_v1_train", 30, 11.51462, 11.82149, 11.51461, 4.26527, 11.51462, 16.61209, 5.00074, 12.95603, 5.62673),
    ("lvis_v1_train", 1078, 3.92529, 4.92479, 3.90535, 2.05922, 3.91534, 5.66299, 1.70473, 6.03667, 2.62169),
    ("lvis_v0.5_train", 0, 10.26226, 10.85682, 10.26223, 3.97679, 10.26225, 14.80532, 4.45684, 12.75702, 5.54030),
]  # fmt: skip


@pytest.mark.parametrize("name, index, raw, smooth, rel, normit, gombit, base2, base10, obj, obj10", REFERENCE)  # fmt: skip
def test_reference_values(name, index, raw, smooth, rel, normit, gombit, base2, base10, obj, obj10):
    frequency = packaged_frequency(name)
    expected = dict(raw=raw, smooth=smooth, rel=rel, normit=normit, gombit=gombit, base2=base2, base10=base10)  # fmt: skip
    for variant, value in expected.items():
        weights = iif_weights(frequency, variant, normalizer="images")
        assert weights[index] == pytest.approx(value, abs=6e-6), variant
    for variant, value in (("raw", obj), ("base10", obj10)):
        for normalizer in ("images", "sum"):  # instances always divide by all instances
            weights = iif_weights(frequency, variant, "instance", normalizer)
            assert weights[index] == pytest.approx(value, abs=6e-6)


def test_default_is_eq_3_with_the_sum_of_eq_2():
    frequency = packaged_frequency("lvis_v1_train")
    weights = iif_weights(frequency)
    expected = [-math.log(n / 360_952) for n in frequency.image_count.tolist()]
    assert weights.dtype == np.float64
    np.testing.assert_allclose(weights, expected, rtol=1e-14)
    assert weights.min() == pytest.approx(5.20716, abs=6e-6)
    assert weights.max() == pytest.approx(12.79650, abs=6e-6)
    assert weights[0] == pytest.approx(8.63762, abs=6e-6)


def slow_weight(variant: str, n: int, total: int) -> float:
    p = n / total
    return {
        "raw": lambda: -math.log(p),
        "smooth": lambda: -math.log((n + 1) / (total + 1)) + 1,
        "rel": lambda: math.log((1 - p) / p),
        "normit": lambda: -norm.ppf(p),
        "gombit": lambda: -math.log(-math.log(1 - p)),
        "base2": lambda: -math.log(p) / math.log(2),
        "base10": lambda: -math.log(p) / math.log(10),
    }[variant]()


counts = st.lists(st.integers(1, 400), min_size=3, max_size=30)


def frequency_of(images: list[int]) -> ClassFrequency:
    names = [f"class {index}" for index in range(len(images))]
    return ClassFrequency(names, images, [3 * n for n in images], 1000)


@given(counts)
def test_constant_has_the_mean_square_of_raw(images):
    raw, constant = (iif_weights(frequency_of(images), name) for name in ("raw", "constant"))
    np.testing.assert_allclose(constant, math.sqrt(sum(w * w for w in raw) / len(raw)), rtol=1e-12)


@given(counts, st.sampled_from(sorted(set(VARIANTS) - {"constant"})))
def test_every_variant_is_its_formula(images, variant):
    weights = iif_weights(frequency_of(images), variant, normalizer="images")
    expected = [slow_weight(variant, n, 1000) for n in images]
    np.testing.assert_allclose(weights, expected, rtol=1e-9)


@given(counts, st.sampled_from(sorted(VARIANTS)), st.randoms())
def test_permuting_classes_permutes_weights(images, variant, random):
    order = list(range(len(images)))
    random.shuffle(order)
    straight = iif_weights(frequency_of(images), variant, normalizer="images")
    shuffled = iif_weights(frequency_of([images[i] for i in order]), variant, normalizer="images")
    np.testing.assert_array_equal(shuffled, straight[order])


@given(st.lists(st.integers(1, 200), min_size=3, max_size=30), st.sampled_from(sorted(VARIANTS)))
def test_doubling_all_counts_changes_nothing_but_smooth(images, variant):
    images = [*images, *images]  # no class holds half of all, so that rel and normit are defined
    once = iif_weights(frequency_of(images), variant)
    twice = iif_weights(frequency_of([2 * n for n in images]), variant)
    if variant == "smooth":
        assert not np.allclose(once, twice, rtol=1e-6, atol=0)
    else:
        np.testing.assert_allclose(once, twice, rtol=1e-12)


@given(counts, st.sampled_from(sorted(VARIANTS)))
def test_rarer_classes_weigh_more(images, variant):
    weights = iif_weights(frequency_of(images), variant, normalizer="images")
    order = np.argsort(images, kind="stable")
    assert (np.diff(weights[order]) <= 1e-12).all()


def test_an_unseen_class_weighs_as_one_seen_once_and_is_named(caplog):
    frequency = ClassFrequency(("often", "once", "unmet", "ever"), [9, 1, 0, 5], None, 20)
    with caplog.at_level(logging.WARNING):
        weights = iif_weights(frequency)
        iif_weights(frequency, "smooth")  # the second asks in vain for a second warning
    assert weights[2] == weights[1] == pytest.approx(math.log(15))
    assert len(caplog.records) == 1 and "1 of 4 classes (unmet)" in caplog.text
    assert frequency.image_count[2] == 0  # the stored count stays


def test_a_weight_that_is_not_positive_is_refused_with_a_variant_that_works():
    coco = packaged_frequency("coco_2017_train")
    for variant in ("rel", "normit"):
        with pytest.raises(
            ConfigError, match=r"1 of 80 classes \(person\).*raw or smooth"
        ) as error:
            iif_weights(coco, variant, normalizer="images")
        works = str(error.value).partition("; use ")[2].split(" or ")
        for name in works:
            assert (iif_weights(coco, name, normalizer="images") > 0).all()
    assert iif_weights(coco, "gombit", normalizer="images")[0] == pytest.approx(0.24724, abs=6e-6)


def test_a_class_in_every_image_has_weight_0_and_is_refused():
    frequency = ClassFrequency(("all", "some"), [10, 3], None, 10)
    for variant in ("raw", "rel", "normit", "gombit", "base2", "base10"):
        with pytest.raises(ConfigError, match=r"\(all\)"):
            iif_weights(frequency, variant, normalizer="images")
    assert iif_weights(frequency, "smooth", normalizer="images")[0] == 1.0


@pytest.mark.parametrize("images", [[4], [0, 7, 0]])
def test_one_class_alone_has_no_tail_and_is_trained_as_by_softmax(images, caplog):
    weights_module._warn_once.cache_clear()
    assert iif_weights(frequency_of(images)).tolist() == [1.0] * len(images)
    assert "no tail" in caplog.text


@pytest.mark.parametrize("field", ["variant", "statistic", "normalizer"])
def test_unknown_names_list_the_known_ones(frequency, field):
    known = {"variant": "raw, smooth", "statistic": "image, instance", "normalizer": "sum, images"}
    with pytest.raises(UnknownNameError, match=f"unknown IIF {field} 'rwa'; known: {known[field]}"):
        iif_weights(frequency, **{field: "rwa"})


def test_nothing_seen_at_all_is_refused():
    with pytest.raises(DataError, match="no class has a single training image"):
        iif_weights(ClassFrequency(("a", "b"), [0, 0], None, 5))

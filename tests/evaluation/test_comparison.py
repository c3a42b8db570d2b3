"""Differences that are paired by seed, against scipy's interval."""

import math

import numpy as np
import pytest
from scipy import stats

from iif_d2.evaluation.comparison import SeedRun, differences_table, paired_difference


def runs_of(row, values):
    return [SeedRun(row, seed, {"AP": ap, "APr": ap / 2}, None) for seed, ap in values.items()]


@pytest.mark.parametrize("number", [2, 3, 5, 11])
def test_the_interval_is_students(number):
    rng = np.random.default_rng(number)
    row, base = (dict(enumerate(rng.normal(30, 5, number))) for _ in "ab")
    mean, half, seeds = paired_difference(runs_of("A", row) + runs_of("B", base), "A", "B", "AP")
    differences = [row[seed] - base[seed] for seed in range(number)]
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx(tuple(expected), rel=1e-3)
    assert seeds == list(range(number))


def test_more_seeds_than_the_table_has_give_a_wider_interval():
    rng = np.random.default_rng(0)
    differences = rng.normal(1, 1, 30)
    runs = runs_of("A", dict(enumerate(differences))) + runs_of("B", dict.fromkeys(range(30), 0.0))
    mean, half, _ = paired_difference(runs, "A", "B", "AP")
    low, high = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert mean - half < low < high < mean + half


def test_only_seeds_of_both_count_and_one_seed_has_no_interval():
    runs = runs_of("A", {0: 3.0, 1: 5.0, 7: 9.0}) + runs_of("B", {1: 4.0, 2: 0.0})
    runs += [SeedRun("B", 0, None, None)]  # begun, and not at its end
    mean, half, seeds = paired_difference(runs, "A", "B", "AP")
    assert (mean, seeds) == (1.0, [1]) and math.isnan(half)
    assert paired_difference(runs, "A", "nobody", "AP")[2] == []
    assert differences_table(runs, [("A", "B"), ("A", "nobody")]) == ""
    runs += runs_of("B", {7: 6.0})
    table = differences_table(runs, [("A", "B"), ("A", "nobody")])
    assert table.splitlines()[0] == "| method | over | AP | APr | seeds |"
    assert table.splitlines()[2:] == ["| A | B | +2.0 [-10.7, 14.7] | +1.0 [-5.4, 7.4] | 1, 7 |"]

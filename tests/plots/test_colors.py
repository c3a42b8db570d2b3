"""Colours that readers can tell apart, those who are colour-blind too, in the light and in the dark."""

import itertools

import numpy as np
import pytest

from iif_d2.groups import GROUPS
from iif_d2.plots.plotting import FIRST, SECOND

PAPERS = ("#ffffff", "#15191f")
# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision
# Deficiency", 2009: severity 1, on linear RGB.
SIGHT = {
    "usual": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}  # fmt: skip
APART = 15  # of CIE 1976's distance, of which 2 can just be seen


def linear(color):
    channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIE L*a*b* of linear RGB, D65."""
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175],
              [0.0193339, 0.119192, 0.9503041]]  # fmt: skip
    xyz = np.array(to_xyz) @ rgb / (0.95047, 1, 1.08883)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one, other):
    """Of WCAG 2."""
    light = sorted(float(linear(c) @ (0.2126, 0.7152, 0.0722)) for c in (one, other))
    return (light[1] + 0.05) / (light[0] + 0.05)


def shown(dark):
    return [g.dark if dark else g.light for g in GROUPS.values()], [FIRST[dark], SECOND[dark]]


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("dark", [False, True])
def test_groups_and_runs_can_be_told_apart(sight, dark):
    for colors in shown(dark):
        seen = [lab(np.clip(SIGHT[sight] @ linear(color), 0, 1)) for color in colors]
        for one, other in itertools.combinations(seen, 2):
            assert np.linalg.norm(one - other) > APART, colors


@pytest.mark.parametrize("dark", [False, True])
def test_they_stand_out_from_the_paper(dark):
    groups, runs = shown(dark)
    assert all(contrast(color, PAPERS[dark]) >= 4.5 for color in groups)  # text is written in them
    assert all(contrast(color, PAPERS[dark]) >= 3 for color in runs)


def test_a_groups_colour_is_the_same_in_numbers():
    assert [round(255 * c) for c in GROUPS["r"].color] == [0xB8, 0x47, 0x00]

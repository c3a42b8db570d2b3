"""The poster's figure (b): norms of the box classifier's rows, plain and times IIF's factor."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from ..checkpoint.reading import read_checkpoint
from ..data import config_frequency
from ..errors import CheckpointError, ConfigError
from ..files import csv_text, write_atomically
from ..frequency import ClassFrequency
from ..groups import GROUPS
from ..methods import METHOD_REGISTRY, build_method, method_options
from .plotting import FIRST, SECOND, figure_of, plain, save_figure

# Of rows side by side, none a group's colour: the first pale, the second strong.
_COLORS = (FIRST[0], SECOND[0], "#e69f00", "#111111", "#56b4e9")
_MARKERS = "oDs^vPX"
_COLUMNS = ("method", "seed", "class", "group", "training_images", "norm", "factor")


@dataclass(frozen=True)
class Norms:
    """The classifier of one run, classes from the most to the fewest training images.

    Attributes:
        norm: (C,) of its foreground rows.
        factor: (C,), what the test multiplies each logit by; nan where it is no fixed factor.
    """

    method: str
    seed: int
    norm: np.ndarray
    factor: np.ndarray


def classifier_norms(checkpoint: str, num_classes: int) -> np.ndarray:
    """float64 (C,): the norm of each foreground row of cls_score, of the last stage in a cascade.

    Raises:
        CheckpointError: the file cannot be read, or holds no box classifier of so many classes.
    """
    state = read_checkpoint(checkpoint)["model"]
    names = sorted(name for name in state if name.endswith("cls_score.weight"))
    if not names or len(state[names[-1]]) < num_classes:
        raise CheckpointError(
            f"{checkpoint} has no cls_score of {num_classes} classes; give a detector's checkpoint"
        )
    return state[names[-1]][:num_classes].double().flatten(1).norm(dim=1).numpy()


def class_factors(cfg: CfgNode) -> np.ndarray:
    """float64 (C,): w_c, by which the config's method multiplies a class's logit at test.

    nan where the method is not of that kind, or learns its factors.
    """
    classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
    name = cfg.MODEL.LONG_TAIL.METHOD
    try:
        if not METHOD_REGISTRY.get(name).second_stage:
            method = build_method(name, config_frequency(cfg).resolve(), **method_options(cfg))
            return method.affine()[0][:classes]
    except ConfigError:  # it says why there is no scale
        pass
    return np.full(classes, np.nan)


def write_norms(
    paths: tuple[str, str], frequency: ClassFrequency, classifiers: Sequence[Norms]
) -> None:
    """The csv and the png of classifiers whose classes are in the order of the frequencies."""
    order = np.argsort(-frequency.image_count, kind="stable")
    groups, names = frequency.groups(), frequency.class_names
    table: list[list] = [list(_COLUMNS)]
    for one in classifiers:
        for c in order:
            about = [names[c], groups[c], frequency.image_count[c]]
            numbers = [f"{one.norm[c]:.4f}", f"{one.factor[c]:.4f}"]
            table.append([one.method, one.seed, *about, *numbers])
    write_atomically(paths[0], csv_text(table))
    draw_norms(paths[1], *read_norms(paths[0]))


def read_norms(path: str) -> tuple[list[Norms], np.ndarray]:
    """What `write_norms` wrote, and the groups, (C,) of "r", "c", "f"."""
    with open(path, encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    result, groups = [], np.array([])
    for (method, seed), of_run in itertools.groupby(lines, lambda n: (n["method"], n["seed"])):
        own = list(of_run)
        norm, factor = (np.array([float(n[key]) for n in own]) for key in ("norm", "factor"))
        groups = np.array([n["group"] for n in own])
        result.append(Norms(method, int(seed), norm, factor))
    return result, groups


def draw_norms(path: str, classifiers: Sequence[Norms], groups: np.ndarray) -> None:
    """Norms divided by their mean, above as they are, below times the factor of the class.

    Under a factor w_c a class's logit is w_c (W_c x + b_c): what decides is the row w_c W_c.

    Args:
        classifiers: runs; those of one method are drawn as their mean and standard deviation.
        groups: (C,) of "r", "c", "f", in the classes' order.
    """
    methods = dict.fromkeys(one.method for one in classifiers)
    norms = {name: [n.norm for n in classifiers if n.method == name] for name in methods}
    times = {name: [n.norm * n.factor for n in classifiers if n.method == name] for name in methods}
    times = {name: own for name, own in times.items() if np.isfinite(own).all()}
    colors = itertools.cycle(_COLORS)
    styles = {name: (color, marker) for name, color, marker in zip(methods, colors, _MARKERS * 9)}
    figure, (above, below) = figure_of(8, 7.5, 2, sharex=True)
    _panel(above, norms, groups, styles)
    above.set_title(f"{_spread_in_words('Norms', norms)}\n", weight="bold", fontsize=10)
    above.set_ylabel("norm / mean norm")
    _panel(below, times, groups, styles)
    said = _spread_in_words("Norms times their factor w", times)
    below.set_title(f"{said}\n", weight="bold", fontsize=10)
    below.set_ylabel("norm times w / mean")
    below.set_xlabel("class, from most to fewest training images")
    save_figure(figure, path)


def _panel(
    axes: Any,
    norms: Mapping[str, Sequence[np.ndarray]],
    groups: np.ndarray,
    styles: Mapping[str, tuple[str, str]],
) -> None:
    places = np.arange(len(groups))
    for name, own in norms.items():
        color, marker = styles[name]
        shares = _shares(own)
        said = plain(f"{name}: {_spread(own):.2f}")
        mean = shares.mean(axis=0)
        axes.plot(places, mean, color=color, marker=marker, ms=3.5, lw=0.9, label=said)
        if len(shares) > 1:
            band = shares.std(axis=0, ddof=1)
            axes.fill_between(places, mean - band, mean + band, color=color, alpha=0.2, lw=0)
    name_groups(axes, groups)
    if norms:
        bands = "; bands: over seeds" if max(map(len, norms.values())) > 1 else ""
        axes.legend(fontsize=8, title=f"standard deviation{bands}", title_fontsize=8)


def _shares(norms: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([norm / norm.mean() for norm in norms])


def _spread(norms: Sequence[np.ndarray]) -> float:
    """The standard deviation over classes of norm / mean norm; the mean over seeds."""
    return float(_shares(norms).std(axis=1).mean())


def _spread_in_words(what: str, norms: Mapping[str, Sequence[np.ndarray]]) -> str:
    if not norms:
        return f"{what}: no method here has one"
    spreads = {name: _spread(own) for name, own in norms.items()}
    most, least = (pick(spreads, key=lambda name: spreads[name]) for pick in (max, min))
    if most == least:
        return f"{what} spread by {spreads[most]:.2f} under {plain(most)}"
    return (
        f"{what} spread most under {plain(most)} ({spreads[most]:.2f}), "
        f"least under {plain(least)} ({spreads[least]:.2f})"
    )


def name_groups(axes: Any, groups: np.ndarray) -> None:
    """Lines between groups of neighbouring classes, and each group's name above its classes."""
    for letter, group in GROUPS.items():
        places = np.flatnonzero(groups == letter)
        if not len(places):
            continue
        if places[0]:
            axes.axvline(places[0] - 0.5, color="0.7", lw=0.8)
        axes.text(
            places.mean(), 1.01, group.name, color=group.light, ha="center", va="bottom",
            transform=axes.get_xaxis_transform(),
        )  # fmt: skip

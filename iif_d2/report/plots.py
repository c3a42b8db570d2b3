"""Which plots the page has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..groups import GROUPS
from . import figures
from .diagnosis import TIDE, Change, Diagnosis
from .runs import Run

_MOST_CLASSES = 60  # of the heat map: more would be seen by nobody
_NAMES = [group.name for group in GROUPS.values()]
_FATES = ("found", *(f"as {name}" for name in _NAMES), "missed")  # as another class of the group


def page_plots(
    runs: Sequence[Run],
    diagnoses: Sequence[Diagnosis],
    names: Sequence[str],
    classes: dict[str, Any],
    changed: tuple[list[Change], list[Change]] | None,
) -> dict[str, dict]:
    """Plots by the place in the page that they are put into; see `figures` for what one is.

    Args:
        classes: the columns of the table of classes.
    """
    titles = [run.name for run in runs]
    plots = {}
    if np.isfinite(classes["images"]).all():
        plots |= _by_class(titles, names, classes)
    if changed:
        label = f"AP points, {titles[1]} less {titles[0]}"
        metrics, moved = changed
        plots["changed-metrics"] = figures.intervals(metrics, [c.name for c in metrics], label)
        numbers = [int(change.name) for change in moved]
        plots["changed-classes"] = figures.intervals(
            moved, [names[number] for number in numbers], label,
            None if classes["groups"] is None else classes["groups"][numbers].tolist(),
        )  # fmt: skip
    plots |= _confusion(diagnoses, names, classes)
    gains = [(title, [d.tide[key][0] for key in TIDE]) for title, d in zip(titles, diagnoses)]
    plots["tide"] = figures.bars(list(TIDE), gains, "AP50 points lost")
    plots["calibration"] = figures.reliability(
        [(title, d.calibration) for title, d in zip(titles, diagnoses)]
    )
    curves = [(run.name, run.curves()) for run in runs]
    if any(scalars for _, scalars in curves):
        plots["curves"] = figures.curves(curves)
    return plots


def _by_class(titles: list[str], names: Sequence[str], classes: dict[str, Any]) -> dict[str, dict]:
    """AP, norms and weights of each class against its training images."""

    images, groups = classes["images"], classes["groups"]

    def plot(per_run: list, label: str) -> dict:
        series = [
            (run, titles[run], values) for run, values in enumerate(per_run) if values is not None
        ]
        return figures.by_class(names, images, groups, series, label)

    plots = {}
    for what, per_run in classes["aps"].items():
        key = what.replace(" ", "-")
        plots[key] = plot(per_run, what)
        if len(titles) == 2:
            plots[f"{key}-difference"] = figures.sorted_classes(
                names, groups, per_run[1] - per_run[0], f"{what}, {titles[1]} less {titles[0]}"
            )
    plots["norms"] = plot(classes["norms"], "norm of the classifier's row")
    for kind in ("factor", "shift"):
        per_run = [w[1] if w and w[0] == kind else None for w in classes["weights"]]
        if any(values is not None for values in per_run):
            plots[f"class-{kind}"] = plot(per_run, f"class {kind}")
    return plots


def _confusion(
    diagnoses: Sequence[Diagnosis], names: Sequence[str], classes: dict[str, Any]
) -> dict[str, dict]:
    """Heat maps of a run each: between groups, and between the classes confused most."""
    groups, plots = classes["groups"], {}
    shown = _most_confused(diagnoses, classes["images"])
    borders: list[int] = []
    if groups is not None:
        borders = (np.flatnonzero(groups[shown][1:] != groups[shown][:-1]) + 1).tolist()
    for number, diagnosis in enumerate(diagnoses):
        if groups is not None:
            counts = diagnosis.between_groups(groups)
            objects = counts.sum(axis=1)
            plots[f"heat-groups-{number}"] = figures.heat(
                counts, objects, _NAMES, _FATES, written=True
            )
        objects = diagnosis.confusion[shown].sum(axis=1)
        counts = diagnosis.confusion[np.ix_(shown, [*shown, len(names)])]
        called = [names[index] for index in shown]
        fates = [*called, "missed"]
        plots[f"heat-{number}"] = figures.heat(counts, objects, called, fates, borders)
    return plots


def _most_confused(diagnoses: Sequence[Diagnosis], images: np.ndarray) -> np.ndarray:
    """The classes that take part in most confusions of all runs, the most frequent first."""
    between = sum(diagnosis.confusion[:-1, :-1] for diagnosis in diagnoses).copy()
    np.fill_diagonal(between, 0)
    takes_part = between.sum(axis=0) + between.sum(axis=1)
    chosen = np.sort(np.argsort(-takes_part, kind="stable")[:_MOST_CLASSES])
    return chosen[np.argsort(-np.nan_to_num(images[chosen]), kind="stable")]

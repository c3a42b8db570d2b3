"""The page's plots as plotly.js takes them: plain dicts of data and layout, without colours.

Colours come from the page's own style, which knows whether it is dark. A trace's `meta` says what
it shows: `run`, 0 or 1, and `groups`, the letter of each of its classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..groups import GROUPS

_POINTS = 400  # of a training curve: more would be seen by nobody


def by_class(
    names: Sequence[str],
    images: np.ndarray,
    groups: np.ndarray | None,
    values: Sequence[tuple[int, str, np.ndarray]],
    label: str,
) -> dict:
    """A point a class over its training images, for each named series; filtered with the table.

    Args:
        names: C class names.
        images: (C,), training images.
        groups: (C,) of "r", "c", "f", or None; a line shows where one ends and the next begins, and
            each is named.
        values: (run, series, (C,)); nan leaves a class out.
        label: of the values.
    """
    traces = []
    for run, series, array in values:
        shown = np.flatnonzero(np.isfinite(array))
        traces.append(
            _trace(
                {"type": "scatter", "mode": "markers"},
                series,
                np.maximum(images[shown], 0.5).tolist(),  # a logarithmic axis has no 0
                _short(array[shown]),
                "<b>%{text}</b><br>%{customdata[1]} training images<br>" + f"{label} %{{y:.4g}}",
                run,
                groups=None if groups is None else groups[shown],
                text=[_plain(names[index]) for index in shown],
                customdata=[[int(index), int(images[index])] for index in shown],
            )
        )
    layout = {
        "xaxis": {"type": "log", "title": "training images"},
        "yaxis": {"title": label},
        "shapes": [
            {"type": "line", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1, "layer": "below"}
            for x in _limits(images, groups)
        ],
        "annotations": _group_names(images, groups),
    }
    return {"data": traces, "layout": layout, "byClass": True}


def sorted_classes(
    names: Sequence[str], groups: np.ndarray | None, values: np.ndarray, label: str
) -> dict:
    """A bar a class, the largest value first; filtered with the table.

    Args:
        names: C class names.
        groups: (C,) of "r", "c", "f", whose bars have its colour, or None.
        values: (C,); nan leaves a class out.
        label: of the values.
    """
    order = np.argsort(-values, kind="stable")  # nan last
    order = order[np.isfinite(values[order])]
    traces = []
    series_of = {"": label} if groups is None else {g: GROUPS[g].name for g in GROUPS}
    for letter, series in series_of.items():
        places = np.arange(len(order))
        if groups is not None:
            places = places[groups[order] == letter]
        shown = order[places]
        traces.append(
            _trace(
                {"type": "bar"},
                series,
                places.tolist(),
                _short(values[shown]),
                f"<b>%{{text}}</b><br>{label} %{{y:+.1f}}",
                1,
                groups=None if groups is None else groups[shown],
                text=[_plain(names[index]) for index in shown],
                textposition="none",
                customdata=[[int(index)] for index in shown],
            )
        )
    layout = {
        "xaxis": {"title": "classes, the largest gain first", "showgrid": False, "zeroline": False},
        "yaxis": {"title": label, "zeroline": True},
        "barmode": "overlay",
        "bargap": 0.15,
    }
    return {
        "data": [trace for trace in traces if trace["x"]],
        "layout": layout,
        "byClass": True,
        "ticks": {"xaxis": [names[index] for index in order]},
    }


def _limits(images: np.ndarray, groups: np.ndarray | None) -> list[float]:
    """Numbers of images between a group's most and the next group's fewest."""
    if groups is None:
        return []
    limits = []
    for lower, upper in pairwise(GROUPS):
        below, above = images[groups == lower], images[groups == upper]
        if len(below) and len(above):
            limits.append(float(np.sqrt(max(below.max(), 0.5) * above.min())))
    return limits


def _group_names(images: np.ndarray, groups: np.ndarray | None) -> list[dict]:
    """Each group's name above the middle of its classes."""
    named = []
    for letter, group in GROUPS.items() if groups is not None else ():
        own = np.log10(np.maximum(images[groups == letter], 0.5))
        if len(own):
            middle = float((own.min() + own.max()) / 2)  # plotly.js has logarithms here
            text = {"text": group.name, "group": letter, "showarrow": False}
            named.append({"x": middle, "y": 1, "yref": "paper", "yanchor": "bottom"} | text)
    return named


def intervals(
    changes: Sequence, names: Sequence[str], label: str, groups: Sequence[str] | None = None
) -> dict:
    """Differences with their intervals, the first on top; of classes in their group's colour."""
    trace = {
        "type": "scatter",
        "mode": "markers",
        "y": list(range(len(names))),  # places, for two classes may have one name
        "x": _short([change.difference for change in changes]),
        "text": [_plain(name) for name in names],
        "hovertemplate": "<b>%{text}</b><br>%{x:+.2f}<extra></extra>",
        "meta": {"groups": list(groups)} if groups is not None else {},
    }
    if all(change.interval for change in changes):
        trace["error_x"] = {
            "type": "data",
            "symmetric": False,
            "array": _short([change.interval[1] - change.difference for change in changes]),
            "arrayminus": _short([change.difference - change.interval[0] for change in changes]),
        }
    layout = {
        "xaxis": {"title": _plain(label), "zeroline": True},
        "yaxis": {"range": [len(names) - 0.5, -0.5], "zeroline": False},
        "height": 120 + 26 * len(names),
    }
    return {"data": [trace], "layout": layout, "ticks": {"yaxis": list(names)}}


def heat(
    counts: np.ndarray,
    objects: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    borders: Sequence[int] = (),
    written: bool = False,
) -> dict:
    """What became of the objects of each row, the darker the more.

    Args:
        counts: (R, K) of objects.
        objects: (R,), all of each row.
        rows: R names.
        columns: K names.
        borders: places before which one group ends and the next begins.
        written: write each field's share of its row's objects into it.
    """
    with np.errstate(invalid="ignore"):
        shares = 100 * counts / objects[:, None]
    trace = {
        "type": "heatmap",
        "z": [[None if np.isnan(v) else round(float(v), 1) for v in row] for row in shares],
        "zmin": 0,
        "zmax": 100,
        "customdata": counts.tolist(),
        "text": [[f"<b>{_plain(r)}</b><br>{_plain(c)}" for c in columns] for r in rows],
        "hovertemplate": "%{text}: %{customdata} objects, %{z:.0f} %<extra></extra>",
        "xgap": 1 if written else 0,
        "ygap": 1 if written else 0,
    }
    if written:
        trace["texttemplate"] = "%{z:.0f} %"
    right, bottom = len(columns) - 0.5, len(rows) - 0.5
    shapes = []
    for at in borders:
        line = {"type": "line", "x0": at - 0.5, "x1": at - 0.5, "y0": -0.5, "y1": bottom}
        across = {"type": "line", "y0": at - 0.5, "y1": at - 0.5, "x0": -0.5, "x1": right}
        shapes += [line, across]
    layout = {
        "xaxis": {"showgrid": False, "zeroline": False, "side": "top" if written else "bottom"},
        "yaxis": {"showgrid": False, "zeroline": False, "range": [bottom, -0.5]},
        "shapes": shapes,
        "height": 180 if written else 640,
        "margin": {"l": 50, "r": 15, "t": 50 if written else 30, "b": 10 if written else 50},
    }
    return {
        "data": [trace],
        "layout": layout,
        "ticks": {"xaxis": list(columns), "yaxis": list(rows)},
        "square": not written,
    }


def bars(labels: Sequence[str], values: Sequence[tuple[str, Sequence[float]]], label: str) -> dict:
    """Grouped bars."""
    traces = [
        _trace({"type": "bar"}, series, list(labels), _short(numbers), "%{x}: %{y:.2f}", run)
        for run, (series, numbers) in enumerate(values)
    ]
    return {"data": traces, "layout": {"yaxis": {"title": label}, "barmode": "group"}}


def reliability(calibrations: Sequence[tuple[str, dict]]) -> dict:
    """The share of right detections over their score; on the diagonal scores mean what they say."""
    traces = []
    for run, (series, calibration) in enumerate(calibrations):
        bins = [b for b in calibration["bins"] if b["count"]]
        traces.append(
            _trace(
                {"type": "scatter", "mode": "lines+markers"},
                series,
                _short([b["avg_confidence"] for b in bins]),
                _short([b["avg_accuracy"] for b in bins]),
                "score %{x:.2f}, right %{y:.0%}<br>%{text}",
                run,
                text=[f"{b['count']:,} detections" for b in bins],
            )
        )
    diagonal = {"type": "line", "x0": 0, "y0": 0, "x1": 1, "y1": 1, "line": {"dash": "dot"}}
    layout = {
        "xaxis": {"title": "score", "range": [0, 1]},
        "yaxis": {"title": "share that is right", "range": [0, 1], "tickformat": ".0%"},
        "shapes": [diagonal],
    }
    return {"data": traces, "layout": layout}


def curves(runs: Sequence[tuple[str, dict[str, tuple[list, list]]]]) -> dict:
    """Every scalar of training; the page shows the one that is chosen."""
    keys = sorted({key for _, scalars in runs for key in scalars})
    choices = {key: [] for key in keys}
    for run, (series, scalars) in enumerate(runs):
        for key, (steps, values) in scalars.items():
            kind = {"type": "scatter", "mode": "lines" if len(steps) > 1 else "markers"}
            hover = "step %{x:.0f}: %{y:.4g}"
            choices[key].append(_trace(kind, series, _thin(steps), _thin(values), hover, run))
    first: str | None = "total_loss" if "total_loss" in keys else next(iter(keys), None)
    layout = {"xaxis": {"title": "step"}, "yaxis": {"title": first or ""}}
    return {"data": choices.get(first, []), "layout": layout, "choices": choices, "chosen": first}


def _trace(
    kind: dict,
    series: str,
    x: list,
    y: list,
    hover: str,
    run: int,
    groups: np.ndarray | None = None,
    **more,
) -> dict:
    """One named series of a run; `hover` is what the pointer shows."""
    name = _plain(series)
    meta: dict = {"run": run}
    if groups is not None:
        meta["groups"] = groups.tolist()
    template = f"{hover}<extra>{name}</extra>"
    return {**kind, "name": name, "x": x, "y": y, **more, "hovertemplate": template, "meta": meta}


def _thin(values: list) -> list:
    """Means of neighbours where there are more than can be seen."""
    step = -(-len(values) // _POINTS)
    if step <= 1:
        return _short(values)
    return _short([np.mean(values[i : i + step]) for i in range(0, len(values), step)])


def _short(values) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def _plain(text: str) -> str:
    """Text that plotly.js, which reads some tags, shows as it is."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

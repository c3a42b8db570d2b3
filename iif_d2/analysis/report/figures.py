"""The page's plots as plotly.js takes them: plain dicts of data and layout, without colours.

Colours come from the page's own style, which knows whether it is dark.
"""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np

_POINTS = 400  # of a training curve: more would be seen by nobody


def by_class(
    names: Sequence[str],
    images: np.ndarray,
    values: Sequence[tuple[str, np.ndarray]],
    label: str,
) -> dict:
    """A point a class over its training images, for each named series; filtered with the table.

    Args:
        names: C class names.
        images: (C,), training images.
        values: (series, (C,)); nan leaves a class out.
        label: of the values.
    """
    traces = []
    for series, array in values:
        shown = np.flatnonzero(np.isfinite(array))
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": series,
                "x": np.maximum(images[shown], 0.5).tolist(),  # a logarithmic axis has no 0
                "y": _short(array[shown]),
                "text": [_plain(names[index]) for index in shown],
                "customdata": shown.tolist(),
                "hovertemplate": f"<b>%{{text}}</b><br>%{{x:.0f}} training images<br>"
                f"{label} %{{y:.4g}}<extra>{_plain(series)}</extra>",
            }
        )
    layout = {"xaxis": {"type": "log", "title": "training images"}, "yaxis": {"title": label}}
    return {"data": traces, "layout": layout, "byClass": True}


def intervals(changes: Sequence, names: Sequence[str], label: str) -> dict:
    """Differences with their intervals, the first on top."""
    trace = {
        "type": "scatter",
        "mode": "markers",
        "y": [_plain(name) for name in names],
        "x": _short([change.difference for change in changes]),
        "hovertemplate": "<b>%{y}</b><br>%{x:+.2f}<extra></extra>",
    }
    if all(change.interval for change in changes):
        trace["error_x"] = {
            "type": "data",
            "symmetric": False,
            "array": _short([change.interval[1] - change.difference for change in changes]),
            "arrayminus": _short([change.difference - change.interval[0] for change in changes]),
        }
    layout = {
        "xaxis": {"title": label, "zeroline": True},
        "yaxis": {"autorange": "reversed", "type": "category", "automargin": True},
        "height": 160 + 26 * len(names),
    }
    return {"data": [trace], "layout": layout}


def bars(labels: Sequence[str], values: Sequence[tuple[str, Sequence[float]]], label: str) -> dict:
    """Grouped bars."""
    traces = [
        {
            "type": "bar",
            "name": series,
            "x": list(labels),
            "y": _short(numbers),
            "hovertemplate": f"%{{x}}: %{{y:.2f}}<extra>{_plain(series)}</extra>",
        }
        for series, numbers in values
    ]
    return {"data": traces, "layout": {"yaxis": {"title": label}, "barmode": "group"}}


def reliability(calibrations: Sequence[tuple[str, dict]]) -> dict:
    """The share of right detections over their score; on the diagonal scores mean what they say."""
    traces = []
    for series, calibration in calibrations:
        bins = [b for b in calibration["bins"] if b["count"]]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": series,
                "x": _short([b["avg_confidence"] for b in bins]),
                "y": _short([b["avg_accuracy"] for b in bins]),
                "text": [f"{b['count']:,} detections" for b in bins],
                "hovertemplate": "score %{x:.2f}, right %{y:.0%}<br>%{text}"
                f"<extra>{_plain(series)}</extra>",
            }
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
    choices = {
        key: [
            {
                "type": "scatter",
                "mode": "lines" if len(scalars[key][0]) > 1 else "markers",
                "name": series,
                "x": _thin(scalars[key][0]),
                "y": _thin(scalars[key][1]),
                "hovertemplate": f"step %{{x:.0f}}: %{{y:.4g}}<extra>{_plain(series)}</extra>",
            }
            for series, scalars in runs
            if key in scalars
        ]
        for key in keys
    }
    first: Optional[str] = "total_loss" if "total_loss" in keys else next(iter(keys), None)
    layout = {"xaxis": {"title": "step"}, "yaxis": {"title": first or ""}}
    return {"data": choices.get(first, []), "layout": layout, "choices": choices, "chosen": first}


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

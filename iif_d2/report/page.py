"""What the analyses found, put into the page; everything it needs is in the one file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..config import flat
from ..errors import IIFError
from ..evaluation.ground_truth import GroundTruth
from ..frequency import ClassFrequency
from ..groups import GROUPS
from .diagnosis import TIDE, Change, Diagnosis
from .plots import page_plots
from .runs import Run
from .templates import render_template
from .verdict import COLUMNS, about, headline, results_rows, verdict


def render(
    runs: Sequence[Run],
    diagnoses: Sequence[Diagnosis],
    truth: GroundTruth,
    frequency: ClassFrequency | None,
    groups: np.ndarray | None,
    *,
    changed: tuple[list[Change], list[Change]] | None,
    pictures: list,
    threshold: float,
    num_images: int,
    dataset: str,
) -> str:
    """The page as one html text, which loads nothing.

    Raises:
        IIFError: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise IIFError(f"the report needs {error.name}: pip install 'iif_d2[report]'") from None
    names = [category.name for category in truth.categories]
    classes = _class_table(runs, diagnoses, truth, frequency, groups)
    plots = page_plots(runs, diagnoses, names, classes, changed)
    results = results_rows([(run.name, run.results()) for run in runs])
    metrics = changed[0] if changed else []
    intervals = bool(metrics) and metrics[0].interval is not None
    return render_template(
        "page.html",
        title=headline([run.name for run in runs], metrics, results, dataset),
        about=about(len(runs), intervals, num_images, dataset),
        verdict=verdict(metrics),
        runs=[run.name for run in runs],
        folders=[(run.name, run.folder) for run in runs],
        threshold=threshold,
        results=results,
        metrics=COLUMNS,
        frequency=frequency,
        classes=classes,
        group_names={letter: group.name for letter, group in GROUPS.items()},
        changed=changed,
        names=names,
        diagnosed=[(run.name, diagnosis) for run, diagnosis in zip(runs, diagnoses)],
        pairs=_pairs(diagnoses),
        tide=TIDE,
        pictures=pictures,
        plots=plots,
        plots_json=_script_json(plots),
        config_differences=_config_differences(runs),
        configs=[(run.name, run.cfg.dump()) for run in runs],
        plotly_js=get_plotlyjs(),
    )


def _class_table(
    runs: Sequence[Run],
    diagnoses: Sequence[Diagnosis],
    truth: GroundTruth,
    frequency: ClassFrequency | None,
    groups: np.ndarray | None,
) -> dict[str, Any]:
    """The columns of the table of classes: each (title, (C,) values)."""
    size = len(truth.categories)
    images = np.full(size, np.nan) if frequency is None else frequency.image_count.astype(float)
    objects = diagnoses[0].confusion[:size].sum(axis=1)
    table: dict[str, Any] = {"images": images, "groups": groups, "columns": []}
    columns = table["columns"]
    columns.append(("training images", images))
    columns.append(("objects here", objects.astype(float)))
    aps = {}
    for task, what in (("bbox", "box AP"), ("segm", "mask AP")):
        per_run = [run.per_class(task, size) for run in runs]
        if all(values is not None for values in per_run):
            aps[what] = per_run
            columns += [(f"{what}, {run.name}", values) for run, values in zip(runs, per_run)]
            if len(runs) == 2:
                columns.append((f"{what}, difference", per_run[1] - per_run[0]))
    table["aps"] = aps
    with np.errstate(invalid="ignore"):
        for run, diagnosis in zip(runs, diagnoses):
            found = 100 * np.diag(diagnosis.confusion)[:size] / objects
            missed = 100 * diagnosis.confusion[:size, size] / objects
            columns.append((f"% found, {run.name}", found))
            columns.append((f"% missed, {run.name}", missed))
    # The largest gain first, else the highest AP.
    of = "box AP" if "box AP" in aps else next(iter(aps), None)
    keys = [title for title, _ in columns]
    by = f"{of}, difference" if len(runs) == 2 else f"{of}, {runs[0].name}"
    table["order"], table["sorted"] = range(size), None
    if of is not None:
        table["sorted"] = keys.index(by) + 2  # after the class and its group
        table["order"] = np.argsort(-columns[keys.index(by)][1], kind="stable").tolist()
    table["norms"] = [run.norms(size) for run in runs]
    table["weights"] = [run.class_weights(size) for run in runs]
    columns += [(f"weight norm, {run.name}", v) for run, v in zip(runs, table["norms"])]
    for run, weights in zip(runs, table["weights"]):
        if weights is not None:
            columns.append((f"class {weights[0]}, {run.name}", weights[1]))
    return table


def _pairs(diagnoses: Sequence[Diagnosis]) -> list[tuple[int, int, list[int]]]:
    """(class, taken for, how often in each run), of the pairs that any run confuses most."""
    pairs = dict.fromkeys((a, b) for d in diagnoses for a, b, _ in d.confused_pairs())
    rows = [(a, b, [int(d.confusion[a, b]) for d in diagnoses]) for a, b in pairs]
    return sorted(rows, key=lambda row: -sum(row[2]))


def _config_differences(runs: Sequence[Run]) -> list[tuple[str, list]]:
    configs = [dict(flat(run.cfg)) for run in runs]
    keys = sorted(set().union(*configs))
    return [
        (key, [values.get(key, "") for values in configs])
        for key in keys
        if len({str(values.get(key)) for values in configs}) > 1
    ]


def _script_json(value: Any) -> str:
    """Json that may stand inside a script element, whatever the names in it are."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

"""What `iif-d2 compare` writes: the table, the csv and the figures."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING

from ..files import write_atomically

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from ..engine.compare import Row
    from ..engine.rows_file import Figures
    from ..evaluation.comparison import SeedRun


def write_comparison(
    output: str, rows: Sequence[Row], runs: Sequence[SeedRun], figures: Figures, cfg: CfgNode
) -> list[str]:
    """Write the table, the csv and what can be drawn; the table, and where they lie."""
    from ..evaluation.comparison import comparison_csv, comparison_table, differences_table
    from ..plots.comparison import plot_models, plot_rows

    def place(name: str) -> str:
        return os.path.join(output, name)

    table = comparison_table(runs)
    write_atomically(place("results.csv"), comparison_csv(runs))
    write_atomically(place("table.md"), table + "\n")
    written = [place("results.csv"), place("table.md")]
    done = [run for run in runs if run.results is not None]
    pairs = figures.differences or [(row.name, rows[0].name) for row in rows[1:]]
    if differences := differences_table(done, pairs):
        write_atomically(place("differences.md"), differences + "\n")
        written.append(place("differences.md"))
    if plot_rows(place("ap_apr.png"), done, cfg.DATASETS.TEST[0]):
        written.append(place("ap_apr.png"))
    if plot_models(place("models.png"), done, figures.models):
        written.append(place("models.png"))
    wanted = [name for _, *pair in figures.models for name in pair]
    written += _without("models.png", wanted, {run.row for run in done}, rows)
    written += _norms(output, rows, done, figures.norms)
    written += _false_positives(output, rows, done, figures.false_positives, cfg)
    folders = {row.name: row.folder(output, 0) for row in rows}
    two = list(dict.fromkeys(folders[run.row] for run in done if run.seed == 0))[:2]
    then = [f"next: iif-d2 report {' '.join(two)}"] if len(two) == 2 else []
    return [table, "", *written, *then]


def _norms(
    output: str, rows: Sequence[Row], done: Sequence[SeedRun], names: Sequence[str]
) -> list[str]:
    """Draw the classifier norms of the rows that are there; the files, and who is left out."""
    from ..config import load_config
    from ..data import config_frequency
    from ..plots.norms import Norms, class_factors, classifier_norms, write_norms

    by_name = {row.name: row for row in rows}
    found, frequency = [], None
    for row in (by_name[name] for name in names if name in by_name):
        trained = row if row.trains else by_name[row.base]
        for seed in (run.seed for run in done if run.row == row.name):
            config = os.path.join(row.folder(output, seed), "config.yaml")
            path = os.path.join(trained.folder(output, seed), "model_final.pth")
            if os.path.isfile(config) and os.path.isfile(path):
                cfg = load_config(config, ["OUTPUT_DIR", output])  # where the counts are kept
                frequency = frequency or config_frequency(cfg).resolve()
                norm = classifier_norms(path, len(frequency))
                found.append(Norms(row.name, seed, norm, class_factors(cfg)))
    paths = os.path.join(output, "norms.csv"), os.path.join(output, "norms.png")
    if frequency is not None:
        write_norms(paths, frequency, found)
    missing = _without("norms.png", names, {one.method for one in found}, rows)
    return [*(paths if found else ()), *missing]


def _false_positives(
    output: str, rows: Sequence[Row], done: Sequence[SeedRun], names: Sequence[str], cfg: CfgNode
) -> list[str]:
    """Draw false positives of the rows that are there; the files, and who is left out."""
    from ..data import config_frequency
    from ..evaluation import Detections
    from ..evaluation.equal_recall import false_positives_at_recall
    from ..evaluation.lvis_evaluation import RESULTS_FILE, dataset_ground_truth, evaluation_folder
    from ..evaluation.metrics import class_groups
    from ..plots.false_positives import write_false_positives

    test = cfg.DATASETS.TEST[0]
    by_name = {row.name: row for row in rows}
    files = {
        (name, run.seed): os.path.join(
            evaluation_folder(by_name[name].folder(output, run.seed), test), RESULTS_FILE
        )
        for name in names
        for run in done
        if run.row == name
    }
    files = {run: path for run, path in files.items() if os.path.isfile(path)}
    counts: dict[str, dict] = {}
    if files:
        truth = dataset_ground_truth(test)
        groups = class_groups(truth, config_frequency(cfg).resolve())
        ids = [category.id for category in truth.categories]
        for (name, seed), path in files.items():
            found = Detections.from_json(path, ids, masks=False)
            of_row = counts.setdefault(name, {})
            of_row[seed] = false_positives_at_recall(truth, found, groups)
    paths = tuple(os.path.join(output, f"false_positives.{end}") for end in ("csv", "png"))
    if counts:
        write_false_positives(paths, counts)
    missing = _without("false_positives.png", names, counts, rows)
    return [*(paths if counts else ()), *missing]


def _without(
    figure: str, wanted: Iterable[str], found: Container[str], rows: Sequence[Row]
) -> list[str]:
    """A line about rows that a figure asks for and does not have; none where it has all."""
    known = {row.name for row in rows}
    missing = [name for name in dict.fromkeys(wanted) if name not in found]
    not_run = [name for name in missing if name in known]
    unknown = [name for name in missing if name not in known]
    said = [f"{figure} is without {', '.join(not_run)}: not run here"] if not_run else []
    if unknown:
        said.append(f"{figure} is without {', '.join(unknown)}: the file has no such row")
    return said

"""Draw the figures again from the tables that lie here; nothing is trained.

python projects/benchmark/figures.py
"""

from __future__ import annotations

import csv
import os

import numpy as np

from iif_d2 import count_class_frequency
from iif_d2.engine.rows_file import read_rows_file
from iif_d2.evaluation.comparison import read_table
from iif_d2.evaluation.sweep_settings import Setting
from iif_d2.groups import GROUPS
from iif_d2.plots.comparison import plot_models, plot_rows
from iif_d2.plots.comparison_figures import draw_false_positives, draw_norms
from iif_d2.plots.sweep_plot import draw_sweep

HERE = os.path.dirname(os.path.abspath(__file__))
TEST, TRAIN = "mini_lvis_val", "mini_lvis_train"


def place(name: str) -> str:
    return os.path.join(HERE, name)


def lines(name: str) -> list[dict[str, str]]:
    with open(place(name), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    runs = list(read_table(place("results.csv")).values())
    plot_rows(place("ap_apr.png"), runs, TEST)
    plot_models(place("models.png"), runs, read_rows_file(place("rows.yaml"))[1].models)
    rows = lines("norms.csv")
    norms = {label: np.array([float(row[label]) for row in rows]) for label in list(rows[0])[2:]}
    frequency = count_class_frequency(TRAIN)
    group_of = dict(zip(frequency.class_names, frequency.groups()))
    draw_norms(place("norms.png"), norms, np.array([group_of[row["class"]] for row in rows]))
    counts = {
        row["method"]: {letter: int(row[group.name]) for letter, group in GROUPS.items()}
        for row in lines("false_positives.csv")
    }
    draw_false_positives(place("false_positives.png"), counts)
    draw_sweep(place("sweep_dev.png"), *sweep())


def sweep() -> tuple[list[Setting], list[dict[str, float]], Setting]:
    """The settings of sweep_dev.csv, what each has, and the best, which is the first."""
    settings, metrics = [], []
    for row in lines("sweep_dev.csv"):
        strength = float(row["strength"])
        family = row["setting"].removesuffix(f" {strength:g}")
        options = {} if family == "Softmax" else {"strength": strength}
        settings.append(Setting(family, strength, row["method"], options))
        metrics.append({key[5:]: float(row[key]) for key in row if key.startswith("bbox_")})
    return settings, metrics, settings[0]


if __name__ == "__main__":
    main()

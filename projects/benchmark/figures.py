"""Draw the figures again from the tables that lie here and in sgd/; nothing is trained.

python projects/benchmark/figures.py

false_positives.png here is of an earlier measure, at one score threshold; the detections that it
counts are gone, so it stays as it is.
"""

from __future__ import annotations

import csv
import os
from collections import defaultdict

import numpy as np

from iif_d2.engine.rows_file import read_rows_file
from iif_d2.evaluation.comparison import differences_table, read_table
from iif_d2.evaluation.sweep_settings import Setting
from iif_d2.files.tables import markdown_table
from iif_d2.plots.comparison import plot_models, plot_rows
from iif_d2.plots.false_positives import draw_false_positives, read_false_positives
from iif_d2.plots.norms import draw_norms, read_norms
from iif_d2.plots.sweep_plot import draw_sweep

HERE = os.path.dirname(os.path.abspath(__file__))
TEST = "mini_lvis_val"


def place(*names: str) -> str:
    return os.path.join(HERE, *names)


def main() -> None:
    for folder, rows in (("", "rows.yaml"), ("sgd", "rows_sgd.yaml")):
        runs = list(read_table(place(folder, "results.csv")).values())
        figures = read_rows_file(place(rows))[1]
        with open(place(folder, "differences.md"), "w", encoding="utf-8") as file:
            file.write(differences_table(runs, figures.differences) + "\n")
        plot_rows(place(folder, "ap_apr.png"), runs, TEST)
        plot_models(place(folder, "models.png"), runs, figures.models)
        draw_norms(place(folder, "norms.png"), *read_norms(place(folder, "norms.csv")))
    counts = read_false_positives(place("sgd", "false_positives.csv"))
    draw_false_positives(place("sgd", "false_positives.png"), counts)
    draw_sweep(place("sweep_dev.png"), *sweep())
    for optimizer in ("sgd", "adamw"):
        with open(place("heads", f"{optimizer}.md"), "w", encoding="utf-8") as file:
            file.write("\n".join(markdown_table(heads(place("heads", f"{optimizer}.csv")))) + "\n")


def heads(path: str) -> list[list[str]]:
    """Box AP / APr of a classifier by each method, at each rate: means over seeds."""
    found = defaultdict(list)
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            name = ", ".join(filter(None, (row["method"], row["options"])))
            found[name, row["lr"]].append((float(row["AP"]), float(row["APr"])))
    rates = sorted({rate for _, rate in found} - {""}, key=float)

    def cell(name: str, rate: str) -> str:
        return " / ".join(f"{np.mean(values):.1f}" for values in zip(*found[name, rate]))

    names = [name for name in dict.fromkeys(name for name, _ in found) if found[name, rates[0]]]
    best = sorted(names, key=lambda name: -max(np.mean(found[name, rate], 0)[0] for rate in rates))
    return [
        ["method", *rates, "seeds"],
        *([name, *(cell(name, rate) for rate in rates), str(len(found[name, rates[0]]))]
          for name in best),
    ]  # fmt: skip


def sweep() -> tuple[list[Setting], list[dict[str, float]], Setting]:
    """The settings of sweep_dev.csv, what each has, and the best, which is the first."""
    settings, metrics = [], []
    with open(place("sweep_dev.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        strength = float(row["strength"])
        family = row["setting"].removesuffix(f" {strength:g}")
        options = {} if family == "Softmax" else {"strength": strength}
        settings.append(Setting(family, strength, row["method"], options))
        metrics.append({key[5:]: float(row[key]) for key in row if key.startswith("bbox_")})
    return settings, metrics, settings[0]


if __name__ == "__main__":
    main()

"""results.jsonl as a markdown table, the poster's numbers beside them.

python projects/classification/results_table.py [FILE]
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections import defaultdict

HERE = os.path.dirname(os.path.abspath(__file__))
POSTER = {  # IIF's is of the rule at test, as the release evaluates it
    "lade": 45.4,
    "logit_adjustment": 43.0,
    "post_iif_smooth": 48.8,
    "ride": 47.0,
}
POSTER_EPOCHS = 400


def read_results(path: str) -> dict[tuple[int, str], list[dict]]:
    """Results of all seeds by (epochs of the representation, name).

    A second stage's own epochs stand in its schedule, the representation's in the name of its run.
    """
    found = defaultdict(list)
    with open(path, encoding="utf-8") as file:
        results = [json.loads(line) for line in file]
    for result in sorted(results, key=lambda result: result["run"]):
        epochs = int(result["run"].rsplit("_", 2)[1].removesuffix("ep"))
        found[epochs, result["name"]].append(result)
    return found


def cell(results: list[dict], key: str) -> str:
    """Mean over seeds, with the standard deviation where there are several."""
    values = [result["test"][key] for result in results if result["test"][key] is not None]
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def table(path: str) -> str:
    """Markdown, the longest schedule first, the best first within it."""
    rows = [
        "| epochs | method | top-1 | many | medium | few | seeds | poster |",
        "|---|---|---|---|---|---|---|---|",
    ]
    found = read_results(path)

    def rank(key: tuple[int, str]) -> tuple[int, float]:
        scores = [result["test"]["top1"] for result in found[key]]
        return -key[0], -statistics.mean(scores)

    for epochs, name in sorted(found, key=rank):
        results = found[epochs, name]
        seeds = " ".join(str(result["seed"]) for result in results)
        poster = POSTER.get(name, "")
        if poster and epochs != POSTER_EPOCHS:
            poster = f"{poster} ({POSTER_EPOCHS} epochs)"
        cells = [cell(results, key) for key in ("top1", "many", "medium", "few")]
        rows.append(f"| {epochs} | {name} | {' | '.join(cells)} | {seeds} | {poster} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table(sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "results.jsonl")))

"""`python -m iif_d2 summary`: a run's result table, and where its files lie."""

from __future__ import annotations

import argparse
import os

from ..errors import DataError

_FILES = {
    "model_final.pth": "the trained model",
    "config.yaml": "the full config",
    "log.txt": "the log",
    "metrics.json": "losses and results by iteration (also as TensorBoard events)",
    "inference/results.json": "the numbers of the table",
}


EXAMPLE = "iif-d2 summary output/mine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output_dir", help="OUTPUT_DIR of a run")


def run(args: argparse.Namespace) -> str:
    return summarize(args.output_dir)


def summarize(output_dir: str) -> str:
    """A run's results as a Markdown table, then one line for each of its files that is there.

    Raises:
        DataError: the folder is no run's, or it was not evaluated.

    Examples:
        >>> print(summarize("output/iif"))
        | data set | task | AP | ...
    """
    from ..evaluation.results import load_results, results_table

    if not os.path.isdir(output_dir):
        raise DataError(f"{output_dir} is no folder; give the OUTPUT_DIR of a run")
    table = results_table(load_results(os.path.join(output_dir, "inference", "results.json")))
    known = [(os.path.join(output_dir, name), what) for name, what in _FILES.items()]
    found = [(path, what) for path, what in known if os.path.exists(path)]
    for folder, _, names in sorted(os.walk(output_dir)):
        tables = [name for name in sorted(names) if name.endswith(".csv")]
        found += [(os.path.join(folder, name), "AP of each class") for name in tables]
        pictures = [name for name in names if name.endswith(".png")]
        if pictures:
            found.append((folder + os.sep, f"{len(pictures)} pictures"))
    width = max(len(path) for path, _ in found)
    return "\n".join([table, "", *(f"{path:<{width}}  {what}" for path, what in found)])

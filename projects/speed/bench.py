"""Each step of ours beside Detectron2's and lvis-api's own, in one run.

python projects/speed/bench.py [--full] [--only CASE ...] [--output DIR]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from statistics import median

import numpy as np
import torch
from cases import NAMES
from measure import Row

HEAD = ("step", "on", "beside", "theirs", "ours", "ratio", "memory theirs / ours", "identical")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="more repetitions and larger sizes")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="CASE")
    parser.add_argument("--output", default="output/bench", metavar="DIR")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device, help="cuda if there is one, else cpu")
    options = parser.parse_args()
    table, sys.stdout = sys.stdout, sys.stderr  # what a case prints is no row
    os.makedirs(options.output, exist_ok=True)
    start, where, rows = time.time(), machine(), []
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    print(*lines, sep="\n", file=table, flush=True)
    for name in options.only:
        for row in importlib.import_module(f"cases.{name}").run(options):
            rows.append(row)
            lines.append(line(row))
            print(lines[-1], file=table, flush=True)
        seconds = time.time() - start
        with open(os.path.join(options.output, "bench.json"), "w") as file:
            content = {"machine": where, "seconds": seconds, "rows": [asdict(row) for row in rows]}
            json.dump(content, file, indent=1)
        with open(os.path.join(options.output, "bench.md"), "w") as file:
            print(f"{where}.", "", *lines, "", growth(rows), sep="\n", file=file)
    print("", growth(rows), "", f"{where}; {seconds:.0f} s", sep="\n", file=table)
    print(f"written: {options.output}/bench.json, {options.output}/bench.md", file=table)


def line(row: Row) -> str:
    ratio = f"{median(row.theirs) / median(row.ours):.3g}" if row.theirs else "-"
    peaks = (row.theirs_memory, row.ours_memory)
    memory = " / ".join("-" if peak is None else f"{peak:,.0f} MiB" for peak in peaks)
    identical = {None: "-", True: "yes", False: "**no**"}[row.identical]
    cells = (
        row.case, row.size, row.reference or "-", median_and_range(row.theirs),
        median_and_range(row.ours), ratio, "-" if row.ours_memory is None else memory, identical,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def median_and_range(seconds: Sequence[float]) -> str:
    if not seconds:
        return "-"
    middle, low, high = (
        f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"
        for value in (median(seconds), min(seconds), max(seconds))
    )
    return middle if len(seconds) == 1 else f"{middle} ({low}-{high})"


def growth(rows: Sequence[Row]) -> str:
    """For each series and side the p of time ~ x^p, by least squares of the logarithms."""
    lines = ["| cost against | side | from | to | exponent of time | exponent of memory |"]
    lines.append(f"|{'---|' * 6}")
    for series in dict.fromkeys(row.series for row in rows if row.series):
        for side in ("ours", "theirs"):
            members = [row for row in rows if row.series == series and getattr(row, side)]
            if len(members) > 1:
                x = [row.x for row in members]
                time = exponent(x, [median(getattr(row, side)) for row in members])
                memory = exponent(x, [getattr(row, f"{side}_memory") for row in members])
                name = "ours" if side == "ours" else members[0].reference
                lines.append(f"| {series} | {name} | {x[0]:,} | {x[-1]:,} | {time} | {memory} |")
    return "\n".join(lines)


def exponent(x: Sequence[float], y: Sequence[float | None]) -> str:
    if None in y:
        return "-"
    return f"{np.polyfit(np.log(x), np.log(np.maximum(y, 1e-9)), 1)[0]:.2f}"


def machine() -> str:
    with open("/proc/cpuinfo") as file:
        found = re.search(r"^model name\s*: (.*)$", file.read(), re.MULTILINE)
    name = found[1] if found else platform.machine()
    return (
        f"{torch.cuda.get_device_name() if torch.cuda.is_available() else name}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start, "
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main()

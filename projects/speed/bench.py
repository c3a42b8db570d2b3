"""Each step of ours beside Detectron2's and lvis-api's own, in one run.

python projects/speed/bench.py [--full] [--only CASE ...] [--output DIR]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import time

from cases import NAMES
from measure import HERE
from report import growth, line, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="more repetitions and larger sizes")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="CASE")
    parser.add_argument("--output", default="output/bench", metavar="DIR")
    parser.add_argument("--device", help="cuda if there is one, else cpu")
    parser.add_argument("--run", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(options)
        return
    start, load = time.time(), os.getloadavg()[0]
    os.makedirs(options.output, exist_ok=True)
    rows = []
    print(table([]), flush=True)
    for name in options.only:
        arguments = ["--run", name, *(["--full"] if options.full else [])]
        arguments += ["--device", options.device] if options.device else []
        # A process for each case: what one allocates or breaks does not reach the next.
        command = [sys.executable, "-W", "ignore", __file__, *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for text in process.stdout:
                rows.append(json.loads(text))
                print(line(rows[-1]), flush=True)
        if process.returncode:
            sys.exit(f"error: case {name} failed; what it printed is above")
        save(options.output, rows, machine(load), time.time() - start)
    print(f"\n{growth(rows)}\n\n{machine(load)}; {time.time() - start:.0f} s")
    print(f"written: {options.output}/bench.json, {options.output}/bench.md")


def run(options: argparse.Namespace) -> None:
    """One case; its rows as lines of json, whatever else is printed going to stderr."""
    rows, sys.stdout = sys.stdout, sys.stderr
    import torch

    options.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    for row in importlib.import_module(f"cases.{options.run}").run(options):
        print(json.dumps(row.as_dict()), file=rows, flush=True)


def save(folder: str, rows: list[dict], where: str, seconds: float) -> None:
    with open(os.path.join(folder, "bench.json"), "w") as file:
        json.dump({"machine": where, "seconds": seconds, "rows": rows}, file, indent=1)
    with open(os.path.join(folder, "bench.md"), "w") as file:
        file.write(f"{where}.\n\n{table(rows)}\n\n{growth(rows)}\n")


def machine(load: float) -> str:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_name()
    return (
        f"{device}, {os.cpu_count()} cores, load {load:.1f} at the start, "
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads"
    )


def cpu_name() -> str:
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            for text in file:
                if text.startswith("model name"):
                    return text.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.path.insert(0, HERE)
    main()

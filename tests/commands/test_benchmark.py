"""The benchmark command: runs what is not done, in order, and says of the rest that it was not."""

from __future__ import annotations

import csv
import json
import signal
import sys
import time
from pathlib import Path

import pytest

from iif_d2.commands import benchmark, main
from iif_d2.config import load_config
from iif_d2.engine.benchmark_rows import MODELS, ROWS
from iif_d2.methods import METHOD_REGISTRY
from iif_d2.plots.benchmark_table import Run, markdown

from ..conftest import TINY
from ..stress import children


@pytest.fixture
def started(monkeypatch):
    """Runs in this process, and what was started: (row's folder, command line)."""
    words_of = []

    class Process:
        exitcode = 0

        def __init__(self, target, args):
            self.args = args

        def start(self):
            words, folder = self.args
            words_of.append((folder, words))
            benchmark.main(benchmark.default_argument_parser().parse_args(words))

        def join(self):
            pass

    class Context:
        pass

    Context.Process = Process
    monkeypatch.setattr(benchmark, "get_context", lambda kind: Context)
    return words_of


def bench(out, *words):
    return main(["benchmark", "--output", str(out), *words])


def test_every_row_has_a_config_and_a_method_that_there_is():
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        options = ["MODEL.DEVICE", "cpu", *row.options]
        cfg = load_config(f"Mini-InstanceSegmentation/{row.config}.yaml", options)
        assert cfg.MODEL.LONG_TAIL.METHOD in METHOD_REGISTRY
        assert cfg.DATASETS.TEST == ("mini_lvis_val",)
        if row.on:
            assert row.on in {other.name for other in ROWS[: ROWS.index(row)]}
    assert {name for model in MODELS for name in model[1:]} <= {row.name for row in ROWS}


def test_it_trains_evaluates_on_top_and_skips_what_is_done(
    started, dataset_name, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(benchmark, "TRAIN", dataset_name)
    monkeypatch.setattr(benchmark, "VAL", dataset_name)
    rows = ("--rows", "Softmax", "NorCal", "LogN", "--seeds", "0", "--", *TINY)
    assert bench(tmp_path, *rows) == 0
    printed = capsys.readouterr().out
    assert [words[2] for _, words in started] == ["--resume", "--eval-only", "--resume"]
    for _, words in started[1:]:
        weights = words[words.index("MODEL.WEIGHTS", words.index("OUTPUT_DIR")) + 1]
        assert weights == str(tmp_path / "runs" / "softmax" / "seed0" / "model_final.pth")
    with open(tmp_path / "results.csv", encoding="utf-8") as file:
        table = {line["row"]: line for line in csv.DictReader(file)}
    assert len(table) == len(ROWS)
    results = json.loads((tmp_path / "runs/norcal/seed0/inference/results.json").read_text())
    assert float(table["NorCal"]["AP"]) == pytest.approx(
        results["tiny_lvis"]["segm"]["AP"], abs=1e-3
    )
    assert table["DropLoss"]["AP"] == "not run" and "| DropLoss | not run |" in printed
    assert (tmp_path / "ap_apr.png").stat().st_size > 1000
    with open(tmp_path / "false_positives.csv", encoding="utf-8") as file:
        assert [line["method"] for line in csv.DictReader(file)] == ["Softmax", "NorCal"]
    started.clear()
    assert bench(tmp_path, *rows) == 0
    assert started == []


def test_evaluations_in_between_are_refused(tmp_path, capsys):
    """Their results would make a run that was stopped look done."""
    assert bench(tmp_path, "--rows", "Softmax", "--", "TEST.EVAL_PERIOD", "5") == 2
    assert "evaluated once, at its end" in capsys.readouterr().err


def run_until_sigterm(words, folder):
    """In place of a run: what it does when SIGTERM comes takes a while."""

    def save(number, frame):
        time.sleep(1)
        (Path(folder) / "saved").touch()
        sys.exit(143)

    signal.signal(signal.SIGTERM, save)
    (Path(folder) / "started").touch()
    time.sleep(600)


def bench_until_sigterm(out):
    benchmark._child = run_until_sigterm
    sys.exit(bench(out, "--rows", "Softmax", "IIF raw", "--seeds", "0"))


def test_sigterm_lets_its_runs_save_and_ends_with_them(tmp_path):
    process = children.start(bench_until_sigterm, tmp_path)
    softmax, iif = (tmp_path / "runs" / row / "seed0" for row in ("softmax", "iif_raw"))
    deadline = time.monotonic() + 120
    while not (softmax / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()
    assert children.end(process, 60) == 143
    assert (softmax / "saved").exists() and not iif.exists()


def test_what_another_machine_ran_is_not_run_but_is_in_the_table(started, tmp_path, capsys):
    path = tmp_path / "earlier.csv"
    lines = ["row,seed,AP,APr,APc,APf,box AP,box APr,cpu_seconds,wall_seconds,peak_mb"]
    lines += ["Softmax,0,1,2,3,4,5,6,120,60,1024", "EQL,3,7,2,3,4,5,6,nan,nan,nan", "GOL,0,not run"]
    path.write_text("\n".join(lines) + "\n")
    words = ("--rows", "Softmax", "--seeds", "0", "--earlier", str(path))
    assert bench(tmp_path / "out", *words) == 0
    assert started == []
    printed = capsys.readouterr().out
    assert "| Softmax | 1.0 | 2.0 | 3.0 | 4.0 | 5.0 | 6.0 | 0 | 2.0 | 1.0 |" in printed
    assert "| EQL | 7.0 | 2.0 | 3.0 | 4.0 | 5.0 | 6.0 | 3 | - | - |" in printed
    assert "| GOL | not run |" in printed
    by_name = {row.name: row for row in ROWS}
    todo = [(by_name["Softmax"], 0), (by_name["NorCal"], 0), (by_name["EQL"], 3)]
    earlier = dict.fromkeys([("Softmax", 0), ("EQL", 3)])
    assert benchmark._not_in(earlier, todo) == todo[:2]  # NorCal needs softmax's model
    again = tmp_path / "out" / "runs" / "softmax" / "seed0" / "inference" / "results.json"
    again.parent.mkdir(parents=True)
    again.write_text(json.dumps({"mini_lvis_val": {"bbox": {"AP": 99.0}}}))
    assert bench(tmp_path / "out", *words) == 0  # run again for its model
    assert "| Softmax | 1.0 | 2.0 |" in capsys.readouterr().out
    path.write_text("a,b\n1,2\n")
    assert bench(tmp_path / "out", *words) == 2
    assert "is no results.csv" in capsys.readouterr().err


def test_runs_of_other_options_are_not_mixed(tmp_path, capsys):
    assert bench(tmp_path, "--list", "--", "SOLVER.MAX_ITER", "10") == 0
    assert bench(tmp_path, "--list", "--", "SOLVER.MAX_ITER", "20") == 2
    assert "was begun with SOLVER.MAX_ITER 10" in capsys.readouterr().err
    assert bench(tmp_path, "--rows", "Softmx", "--", "SOLVER.MAX_ITER", "10") == 2
    assert "unknown benchmark row 'Softmx'; known: Softmax" in capsys.readouterr().err


def test_the_table_gives_means_and_their_spread():
    columns = ("AP", "APr", "APc", "APf", "box AP", "box APr")
    cost = {"cpu_seconds": 120.0, "peak_mb": 2048.0}
    runs = [
        Run("A", 0, "", dict.fromkeys(columns, 10.0), cost),
        Run("A", 2, "", dict.fromkeys(columns, 12.0), cost),
        Run("B", 0, "", dict.fromkeys(columns, 1.0), None),
        Run("C", 0, "", None, None),
    ]
    lines = markdown(runs).splitlines()
    assert lines[2] == "| A |" + " 11.0 ± 1.4 |" * 6 + " 0, 2 | 2.0 | 2.0 |"
    assert lines[3] == "| B |" + " 1.0 |" * 6 + " 0 | - | - |"
    assert lines[4].startswith("| C | not run |") and lines[4].count("|") == lines[2].count("|")

"""The compare command: runs what is not done, in order, and says of the rest that it was not."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from iif_d2.commands import compare as command
from iif_d2.commands import main
from iif_d2.commands.compare import compare
from iif_d2.config import config_path, load_config
from iif_d2.engine import compare as engine
from iif_d2.engine.compare import Row, method_rows
from iif_d2.engine.rows_file import read_rows_file
from iif_d2.errors import ConfigError, DataError, UnknownNameError
from iif_d2.evaluation.comparison import SeedRun, comparison_csv, comparison_table, read_table
from iif_d2.methods import METHOD_REGISTRY
from iif_d2.plots.comparison import plot_rows

from ..conftest import TINY, make_dataset
from ..stress import children

PROJECT = Path(__file__).parents[2] / "projects" / "benchmark"
CONFIG = "Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_iif.yaml"


def bench(out, *words):
    """The project's own benchmark."""
    return main(
        ["compare", "--rows-file", str(PROJECT / "rows.yaml"), "--output", str(out), *words]
    )


def test_how_far_a_run_is_stands_in_what_it_writes(tmp_path):
    config, metrics, folder = tmp_path / "config.yaml", tmp_path / "metrics.json", str(tmp_path)
    assert engine._iterations_in_all(folder) is None and engine._iterations_done(folder) == 0
    for cut in ("", "SEED: 1\n", "SOLVER:", "SOLVER: {MAX"):  # while it is written
        config.write_text(cut)
        assert engine._iterations_in_all(folder) is None
    config.write_text("SOLVER: {MAX_ITER: 600}\n")
    assert engine._iterations_in_all(folder) == 600
    metrics.touch()
    assert engine._iterations_done(folder) == 0
    lines = [json.dumps({"iteration": i, "loss": [0.1] * 9000}) for i in (19, 39)]
    metrics.write_text("\n".join([*lines, '{"segm/AP": 1, "iteration": 59}']))
    assert engine._iterations_done(folder) == 60
    metrics.write_text("\n".join([*lines, '{"iteration": 5']))  # half a line
    assert engine._iterations_done(folder) == 0


def test_a_runs_config_is_read_until_it_is_known(tmp_path, monkeypatch):
    texts = iter(["", "SOLVER: {MAX_ITER: 600}\n"])
    reads = []

    class Process:
        alive = 5

        def is_alive(self):
            self.alive -= 1
            return self.alive

        def join(self, seconds):
            (tmp_path / "config.yaml").write_text(next(texts, "SOLVER: {MAX_ITER: 7}\n"))

    read = engine.parse_yaml
    monkeypatch.setattr(engine, "parse_yaml", lambda *a: reads.append(a) or read(*a))
    engine._follow(Process(), "a run", str(tmp_path))
    assert len(reads) == 2


@pytest.mark.parametrize("name", ["rows.yaml", "rows_sgd.yaml"])
def test_the_rows_of_the_benchmark_are_valid(name):
    rows, _ = read_rows_file(str(PROJECT / name))
    assert len({row.name for row in rows}) == len(rows)
    known = {row.name for row in rows}
    for row in rows:
        assert not row.base or row.base in known
        load_config(row.config, ["MODEL.DEVICE", "cpu", *row.options])


@pytest.mark.parametrize(("file", "number"), [("rows.yaml", 49), ("rows_sgd.yaml", 47)])
def test_every_row_of_the_benchmark_has_a_config_and_a_method_that_there_is(file, number):
    rows, figures = read_rows_file(str(PROJECT / file))
    names = [row.name for row in rows]
    assert len(set(names)) == len(rows) == number
    for row in rows:
        cfg = load_config(row.config, ["MODEL.DEVICE", "cpu", *row.options])
        assert cfg.MODEL.LONG_TAIL.METHOD in METHOD_REGISTRY
        assert cfg.DATASETS.TEST == ("mini_lvis_val",)
    assert {name for model in figures.models for name in model[1:]} <= set(names)
    assert {*figures.norms, *figures.false_positives, *sum(figures.differences, ())} <= set(names)


def test_the_results_that_the_benchmark_holds_are_read_and_give_its_table():
    runs = read_table(str(PROJECT / "results.csv"))
    assert runs["Softmax", 0].results["AP"] == 52.321 and len(runs) == 53
    table = comparison_table(list(runs.values())).splitlines()
    kept = (PROJECT / "table.md").read_text().splitlines()
    assert table == [line for line in kept if "| not run |" not in line]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("rows: [{name: a}]", "'a' has no config"),
        ("config: c\nrows: [{name: a}, {name: a}]", "'a' is there twice"),
        ("config: c\nrows: [{name: a, base: b}]", "stands on 'b'"),
        ("config: c\nrows: [{name: a, trains: false}]", "stands on ''"),
        ("config: c\nrows: [{name: a, option: {}}]", "unknown field `option`"),
        ("config: c\nrows: []", "has no rows"),
        ("rows: [", "is no file of rows"),
    ],
)
def test_a_file_of_rows_that_cannot_stand_is_refused(content, said, tmp_path):
    path = tmp_path / "rows.yaml"
    path.write_text(content)
    with pytest.raises(DataError, match=said):
        read_rows_file(str(path))


def test_methods_that_only_change_the_test_and_second_stages_stand_on_softmax():
    opts = ["MODEL.LONG_TAIL.LogitAdjustment.POST_HOC", "True"]
    methods = ["IIF", "NorCal", "LogitAdjustment", "DisAlign", "LogN", "Sigmoid", "IIF"]
    stands = {row.name: (row.base, row.trains) for row in method_rows(CONFIG, methods, opts)}
    assert stands == {
        "Softmax": ("", True), "IIF": ("", True), "NorCal": ("Softmax", False),
        "LogitAdjustment": ("Softmax", False), "DisAlign": ("Softmax", True),
        "LogN": ("Softmax", True), "Sigmoid": ("", True),
    }  # fmt: skip
    assert list(stands)[0] == "Softmax"
    assert [row.name for row in method_rows(CONFIG, ["IIF"])] == ["IIF"]
    (row,) = method_rows(CONFIG, ["LogitAdjustment"])
    assert row == Row("LogitAdjustment", CONFIG, ("MODEL.LONG_TAIL.METHOD", "LogitAdjustment"))
    with pytest.raises(UnknownNameError, match="unknown method 'Softmx'; known: .*Softmax"):
        method_rows(CONFIG, ["Softmx"])


def test_every_method_of_detection_can_be_a_row():
    names = [name for name, method in METHOD_REGISTRY if method.supports_background]
    stands = {row.name: (row.base, row.trains) for row in method_rows(CONFIG, names)}
    assert set(stands) == set(names) and stands["FRACAL"] == ("Softmax", False)


def test_it_trains_evaluates_on_top_and_skips_what_is_done(started, dataset_name, tmp_path, capsys):
    rows = ("--rows", "Softmax", "NorCal", "LogN", "--seeds", "0", "--", *TINY)
    assert bench(tmp_path, *rows) == 0
    printed = capsys.readouterr().out
    assert [words[2] for _, words in started] == ["--resume", "--eval-only", "--resume"]
    for _, words in started[1:]:
        weights = words[words.index("MODEL.WEIGHTS", words.index("OUTPUT_DIR")) + 1]
        assert weights == str(tmp_path / "runs" / "softmax" / "seed0" / "model_final.pth")
    with open(tmp_path / "results.csv", encoding="utf-8") as file:
        table = {line["row"]: line for line in csv.DictReader(file)}
    assert len(table) == 49
    results = json.loads((tmp_path / "runs/norcal/seed0/inference/results.json").read_text())
    assert float(table["NorCal"]["AP"]) == pytest.approx(
        results["tiny_lvis"]["segm"]["AP"], abs=1e-3
    )
    assert table["DropLoss"]["AP"] == "not run" and "| DropLoss | not run |" in printed
    assert (tmp_path / "ap_apr.png").stat().st_size > 1000
    with open(tmp_path / "false_positives.csv", encoding="utf-8") as file:
        assert {line["method"] for line in csv.DictReader(file)} == {"Softmax", "NorCal"}
    with open(tmp_path / "norms.csv", encoding="utf-8") as file:
        assert {line["method"] for line in csv.DictReader(file)} == {"Softmax"}
    assert "norms.png is without IIF raw: not run here" in printed
    started.clear()
    assert bench(tmp_path, *rows) == 0
    assert started == []


def test_a_figure_says_which_of_its_rows_are_not_there(tmp_path):
    (tmp_path / "rows.yaml").write_text(
        f"config: {CONFIG}\nrows: [{{name: IIF}}, {{name: Other}}]\n"
        "figures: {models: [[R18, Softmx, IIF]], norms: [Other], false_positives: [IIF, Nobody]}"
    )
    path, out = str(tmp_path / "rows.yaml"), str(tmp_path / "out")
    lines = compare(rows_file=path, output=out, train=False).splitlines()
    assert [line for line in lines if " is without " in line] == [
        "models.png is without IIF: not run here",
        "models.png is without Softmx: the file has no such row",
        "norms.png is without Other: not run here",
        "false_positives.png is without IIF: not run here",
        "false_positives.png is without Nobody: the file has no such row",
    ]


MY_DATA = """
from iif_d2 import register_long_tail_instances
register_long_tail_instances("compared", {json!r}, {images!r})
"""


def test_a_users_data_config_and_methods_and_a_kill_on_the_way(tmp_path, monkeypatch, capsys):
    path, images = make_dataset(tmp_path, lvis=False)
    (tmp_path / "my_compared_data.py").write_text(
        MY_DATA.format(json=str(path), images=str(images))
    )
    name = config_path("Mini-InstanceSegmentation/faster_rcnn_R_18_FPN_iif.yaml")
    data = ["DATASETS.TRAIN", "('compared',)", "DATASETS.TEST", "('compared',)"]
    more = ["SOLVER.MAX_ITER", "12", "SOLVER.CHECKPOINT_PERIOD", "2", "TEST.EVAL_PERIOD", "3"]
    (tmp_path / "my.yaml").write_text(load_config(name, [*TINY, *data, *more]).dump())
    words = ["compare", "--import", "my_compared_data", "SOLVER.BASE_LR", "0.002"]
    words += ["--methods", "NorCal", "--config-file", "my.yaml", "--output", "out"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    root = str(Path(command.__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "iif_d2", *words],
        start_new_session=True, env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    softmax = tmp_path / "out" / "runs" / "softmax" / "seed0"
    deadline = time.monotonic() + 120
    while not (softmax / "last_checkpoint").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (softmax / "inference" / "results.json").exists()

    assert main(words) == 0
    log = (softmax / "run.log").read_text()
    assert log.count("Starting training from iteration 0") == 1
    assert log.count("Starting training from iteration ") == 2
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("| method | box AP | box APr | box APc | box APf | seeds |")
    assert [line.split(" | ")[0] for line in printed[2:4]] == ["| Softmax", "| NorCal"]
    assert not any("not run" in line for line in printed)
    assert (softmax / "model_final.pth").exists()
    assert not (tmp_path / "out/runs/norcal/seed0/model_final.pth").exists()
    cost = json.loads((softmax / "cost.json").read_text())
    assert cost["cpu_seconds"] > 0 and cost["peak_mb"] > 100
    assert main([*words[:-4], "--config-file", "other.yaml", "--output", "out"]) == 2


def test_it_is_a_function_that_says_what_cannot_work_together(tmp_path):
    for arguments in ({}, {"config_file": CONFIG}, {"config_file": CONFIG, "methods": ["IIF"], "rows_file": "x"}):  # fmt: skip
        with pytest.raises(ConfigError, match="--config-file and --methods, or else --rows-file"):
            compare(output=str(tmp_path), **arguments)
    with pytest.raises(ConfigError, match="at least one run at a time"):
        compare(CONFIG, ["IIF"], jobs=0)
    with pytest.raises(ConfigError, match="DATASETS.TEST is empty"):
        compare(CONFIG, ["IIF"], output=str(tmp_path), opts=["DATASETS.TEST", "()"])
    said = compare(CONFIG, ["IIF"], output=str(tmp_path / "new"), train=False)
    assert "| IIF | not run |" in said and str(tmp_path / "new" / "results.csv") in said


def test_evaluations_in_between_are_refused(tmp_path, capsys):
    """Their results would make a run that was stopped look done."""
    assert bench(tmp_path, "--rows", "Softmax", "--", "TEST.EVAL_PERIOD", "5") == 2
    assert "evaluated once, at its end" in capsys.readouterr().err


def run_until_sigterm(words, folder, prepare):
    """In place of a run: what it does when SIGTERM comes takes a while."""

    def save(number, frame):
        time.sleep(1)
        (Path(folder) / "saved").touch()
        sys.exit(143)

    signal.signal(signal.SIGTERM, save)
    (Path(folder) / "started").touch()
    time.sleep(600)


def bench_until_sigterm(out):
    engine._child = run_until_sigterm
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
    by_name = {row.name: row for row in read_rows_file(str(PROJECT / "rows.yaml"))[0]}
    todo = [(by_name["Softmax"], 0), (by_name["NorCal"], 0), (by_name["EQL"], 3)]
    earlier = dict.fromkeys([("Softmax", 0), ("EQL", 3)])
    assert command._not_in(earlier, todo) == todo[:2]  # NorCal needs softmax's model
    again = tmp_path / "out" / "runs" / "softmax" / "seed0" / "inference" / "results.json"
    again.parent.mkdir(parents=True)
    again.write_text(json.dumps({"mini_lvis_val": {"bbox": {"AP": 99.0}}}))
    assert bench(tmp_path / "out", *words) == 0  # run again for its model
    assert "| Softmax | 1.0 | 2.0 |" in capsys.readouterr().out
    path.write_text("a,b\n1,2\n")
    assert bench(tmp_path / "out", *words) == 2
    assert "is no results.csv" in capsys.readouterr().err


def test_runs_of_other_options_are_not_mixed(tmp_path, capsys):
    assert bench(tmp_path, "--list", "--", "SOLVER.MAX_ITER", "20") == 0  # which begins nothing
    assert not (tmp_path / "options.json").exists()
    (tmp_path / "options.json").write_text('["SOLVER.MAX_ITER", "10"]')
    assert bench(tmp_path, "--list", "--", "SOLVER.MAX_ITER", "20") == 2
    assert "was begun with SOLVER.MAX_ITER 10" in capsys.readouterr().err
    assert bench(tmp_path, "--rows", "Softmx", "--", "SOLVER.MAX_ITER", "10") == 2
    assert "unknown row 'Softmx'; known: Softmax" in capsys.readouterr().err


def test_the_table_gives_means_and_their_spread():
    columns = ("AP", "APr", "APc", "APf", "box AP", "box APr")
    cost = {"cpu_seconds": 120.0, "peak_mb": 2048.0}
    runs = [
        SeedRun("A", 0, dict.fromkeys(columns, 10.0), cost),
        SeedRun("A", 2, dict.fromkeys(columns, 12.0), cost),
        SeedRun("B", 0, dict.fromkeys(columns, 1.0), None),
        SeedRun("C", 0, None, None),
    ]
    lines = comparison_table(runs).splitlines()
    assert lines[2] == "| A |" + " 11.0 ± 1.4 |" * 6 + " 0, 2 | 2.0 | 2.0 |"
    assert lines[3] == "| B |" + " 1.0 |" * 6 + " 0 | - | - |"
    assert lines[4].startswith("| C | not run |") and lines[4].count("|") == lines[2].count("|")


def test_columns_follow_the_data(tmp_path):
    boxes = {"box AP": 30.0, "box APr": float("nan"), "box APc": 20.0, "box APf": 40.0}
    runs = [SeedRun("A", 0, boxes, None), SeedRun("B", 0, {**boxes, "box APc": 25.0}, None)]
    lines = comparison_table(runs).splitlines()
    assert (
        lines[0] == "| method | box AP | box APr | box APc | box APf | seeds | CPU min | peak GB |"
    )
    assert lines[2] == "| A | 30.0 | - | 20.0 | 40.0 | 0 | - | - |"
    (tmp_path / "r.csv").write_text(comparison_csv(runs))
    again = read_table(str(tmp_path / "r.csv"))
    assert comparison_table(list(again.values())) == comparison_table(runs)
    assert plot_rows(str(tmp_path / "a.png"), runs, "mine")  # over common classes: none is rare
    ungrouped = [SeedRun("A", 0, {"box AP": 1.0}, None)]
    assert not plot_rows(str(tmp_path / "b.png"), ungrouped, "mine")


def test_verbose_prints_what_a_run_adds_to_its_log(tmp_path, capsys):
    log = tmp_path / engine.LOG
    log.write_text("what an earlier process said\n")

    class Process:
        left = ["step 1\n", "step 2\n"]

        def is_alive(self):
            return bool(self.left)

        def join(self, timeout):
            with log.open("a") as file:
                file.write(self.left.pop(0))

    engine._echo(Process(), str(log), log.stat().st_size)
    assert capsys.readouterr().out == "step 1\nstep 2\n"

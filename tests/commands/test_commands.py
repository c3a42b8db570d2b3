"""iif-d2 <command>."""

import argparse
import importlib
import itertools
import json
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import iif_d2
from iif_d2 import ClassFrequency, commands, count_class_frequency
from iif_d2.checkpoint import LongTailCheckpointer
from iif_d2.commands import COMMANDS, main
from iif_d2.commands.arguments import KEYS, SECTIONS, parse
from iif_d2.config import load_config
from iif_d2.evaluation.results import load_results, results_table, save_results

from ..conftest import TINY

FEW = ["--config-file", "Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_iif.yaml", "--output", "o"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    said = capsys.readouterr().out
    assert stop.value.code == 0 and f"usage: iif-d2 {command}" in said and "--import" in said


def test_help_lists_the_commands_and_another_word_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    said = capsys.readouterr().out
    assert stop.value.code == 0 and all(f"  {command} " in said for command in COMMANDS)
    with pytest.raises(SystemExit) as stop:
        main(["comparee"])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "invalid choice: 'comparee'; did you mean 'compare'?" in said
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"iif-d2 {iif_d2.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_in_an_example_that_the_command_takes(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    module = importlib.import_module(f"iif_d2.commands.{COMMANDS[command][0]}")
    assert capsys.readouterr().out.endswith(f"example:\n  {module.EXAMPLE}\n")
    first, name, *words = shlex.split(module.EXAMPLE.replace("\\\n", " "))
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    assert (first, name) == ("iif-d2", command) and parse(parser, words)


@pytest.mark.parametrize(
    "line, expected",
    [("iif-d2 com", "compare"), ("iif-d2 fold --out", "--output"), ("iif-d2 data s", "split")],
)
def test_a_shell_completes(line, expected, tmp_path):
    pytest.importorskip("argcomplete")
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    asked |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "answer"), "_ARGCOMPLETE_IFS": "\n"}
    words = [sys.executable, "-m", "iif_d2"]
    subprocess.run(words, env={**os.environ, **asked}, check=True)
    assert (tmp_path / "answer").read_text().strip() == expected


@pytest.mark.parametrize(
    "words, expected",
    [
        (["config", "NorCall"], "unknown method 'NorCall'; known: .*; did you mean 'NorCal'[?]"),
        (
            ["data", "check", "lvis_v1_trian"],
            "nor a registered .*; did you mean 'lvis_v1_train'[?]",
        ),
        (
            ["frequency", "mini_lvis_trian"],
            "check the name and the path; did you mean 'mini_lvis_t",
        ),
        (
            ["demo", *FEW, "--dataset", "mini_lvis_vall"],
            "not registered .* mean 'mini_lvis_val'[?]",
        ),
        (
            ["fold", *FEW, "MODEL.LONG_TAIL.METHDO", "IIF"],
            "did you mean 'MODEL.LONG_TAIL.METHOD'[?]",
        ),
        (["fold", *FEW, "SOLVER.BASELR", "1"], "key: .*; did you mean 'SOLVER.BASE_LR'[?]$"),
        (
            ["fold", "--output", "o", "--config-file", "Base-RCNN-FPM.yaml"],
            "mean 'Base-RCNN-FPN.yaml'",
        ),
    ],
)
def test_what_was_meant_is_said(words, expected, capsys):
    assert main(words) == 2
    assert re.search(expected, capsys.readouterr().err.strip())


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS), ("data", "split")])
def test_help_waits_for_neither_torch_nor_detectron2(command):
    code = (
        "import sys\nfrom iif_d2.commands import main\n"
        f"try:\n    main([*{command}, '--help'])\n"
        "except SystemExit:\n    assert not {'torch', 'detectron2', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_where_nobody_reads_on_a_command_ends_in_silence():
    words = [sys.executable, "-W", "ignore", "-m", "iif_d2", "config"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.wait() == 141 and process.stderr.read() == b""


@pytest.mark.parametrize("when", ["import_module", "import_modules"])
def test_ctrl_c_before_a_command_begins_is_one_line(when, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, when, interrupted)
    assert main(["summary", "here"]) == 130
    assert capsys.readouterr().err == "stopped by Ctrl-C\n"


TRAINED = [["--config-file", "c.yaml"], ["MODEL.WEIGHTS", "w.pth", "SOLVER.BASE_LR", "-1"]]
ORDERS = {  # what may stand in any order
    "train": [*TRAINED, ["--resume"]],
    "eval": [*TRAINED, ["--num-gpus", "2"]],
    "compare": [*TRAINED, ["--methods", "Softmax", "IIF"], ["--seeds", "0", "1"]],
    "demo": [*TRAINED, ["--output", "o"], ["--input", "a.png", "b.png"]],
    "export": [*TRAINED, ["--output", "o"]],
    "fold": [*TRAINED, ["--output", "o"]],
    "retrain-head": [*TRAINED, ["--output", "o"], ["--methods", "IIF", "Softmax"], ["--lrs", "1"]],
    "sweep": [*TRAINED, ["--output", "o"], ["--masks", "3"]],
    "report": [["run1", "run2"], ["--output", "o"], ["--seed", "1"], TRAINED[1]],
    "predict": [["a.png", "b.png"], ["--weights", "w"], ["--output", "o"], TRAINED[1]],
    "package": [["weights"], ["--output", "o"], ["--half"], TRAINED[1]],
    "convert": [["weights"], ["--output", "o"]],
    "frequency": [["source"], ["--csv", "o"], ["--all"]],
    "summary": [["run"], ["--import", "a"]],
}


@pytest.mark.parametrize("command", ORDERS)
def test_options_and_overrides_may_come_in_any_order(command):
    def parsed(words):
        parser = argparse.ArgumentParser()
        importlib.import_module(f"iif_d2.commands.{COMMANDS[command][0]}").add_arguments(parser)
        parser.add_argument("--import")
        return parse(parser, words)

    groups = ORDERS[command]
    expected = parsed(list(itertools.chain(*groups)))
    if TRAINED[1] in groups:
        assert expected.opts == TRAINED[1]
        rest = list(itertools.chain(*(group for group in groups if group != TRAINED[1])))
        assert parsed([*rest, "--", *TRAINED[1]]) == expected
    if command == "demo":
        assert expected.input == ["a.png", "b.png"]
    for order in itertools.permutations(groups):
        assert parsed(list(itertools.chain(*order))) == expected


@pytest.mark.parametrize(
    "command, words, old",
    [
        ("demo", ["--confidence", "0.2"], ["--confidence-threshold", "0.2"]),
        ("report", ["a", "--confidence", "0.2"], ["a", "--confidence-threshold", "0.2"]),
        ("report", ["a", "SEED", "1"], ["a", "--opts", "SEED", "1"]),
    ],
)
def test_old_spellings_work_and_no_help_shows_them(command, words, old, capsys):
    parser = argparse.ArgumentParser()
    importlib.import_module(f"iif_d2.commands.{command}").add_arguments(parser)
    assert parse(parser, words) == parse(parser, old)
    assert "-threshold" not in parser.format_help() and "--opts" not in parser.format_help()


def test_every_config_key_is_known_as_one():
    assert set(load_config("")) <= {*SECTIONS, *KEYS}


def test_train_and_eval_do_what_train_net_does(dataset_name, tmp_path, capsys):
    """And say at the end what was written, and what to do with it."""

    def said():
        return capsys.readouterr().out.strip().splitlines()[-1]

    config = "Mini-InstanceSegmentation/faster_rcnn_R_18_FPN_iif.yaml"
    assert main(["train", *TINY, "OUTPUT_DIR", str(tmp_path), "--config-file", config]) == 0
    results = tmp_path / "inference" / "results.json"
    assert f"next: iif-d2 predict PICTURE --weights {tmp_path}/model_final.pth" in said()
    trained = json.loads(results.read_text())
    results.unlink()
    weights = ["MODEL.WEIGHTS", str(tmp_path / "model_final.pth")]
    words = [*TINY, "OUTPUT_DIR", str(tmp_path), *weights]
    assert main(["eval", "--config-file", config, *words]) == 0
    assert json.loads(results.read_text()) == trained
    assert said() == f"next: iif-d2 summary {tmp_path}"
    with pytest.raises(SystemExit) as stop:
        main(["train", "--config-file", "gone.yaml"])
    assert stop.value.code == 2


def test_a_users_module_is_imported_first(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_counts.py").write_text(
        "from iif_d2 import register_long_tail_instances\n"
        "register_long_tail_instances('counted_by_import', 'gone.json', 'images')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["frequency", "counted_by_import", "--import", "my_counts"]) == 2
    assert "gone.json does not exist" in capsys.readouterr().err
    assert main(["frequency", "--import", "my_cuonts", "counted_by_import"]) == 2
    assert "error: --import my_cuonts: No module named 'my_cuonts'" in capsys.readouterr().err


def test_frequency_counts_and_saves(dataset, tmp_path, capsys):
    saved = tmp_path / "counts.json"
    assert main(["frequency", str(dataset[0]), "--output", str(saved)]) == 0
    assert str(saved) in capsys.readouterr().out
    assert ClassFrequency.load(saved) == count_class_frequency(str(dataset[0]))


def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, capsys):
    assert main(["frequency", str(tmp_path / "gone.json")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/gone.json does not exist")
    assert main(["summary", str(tmp_path / "gone")]) == 2


def test_demo_draws_what_a_model_finds(tiny_cfg, dataset, tmp_path, capsys):
    from detectron2.modeling import build_model

    cfg = tiny_cfg()
    model = build_model(cfg)
    LongTailCheckpointer(model, str(tmp_path)).save("model")
    line = [
        "demo", "--config-file", "Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_iif.yaml",
        "--input", str(dataset[1] / "train2017" / "*.png"), "--most", "2",
        "--output", str(tmp_path / "drawn"), "--confidence-threshold", "0",
        *TINY, "MODEL.WEIGHTS", str(tmp_path / "model.pth"), "OUTPUT_DIR", str(tmp_path / "out"),
    ]  # fmt: skip
    assert main(line) == 0
    assert "2 pictures written to" in capsys.readouterr().out
    for path in (tmp_path / "drawn").iterdir():
        assert Image.open(path).size == (480, 480)
    (tmp_path / "text.jpg").write_text("no picture")
    line[line.index("--input") + 1] = str(tmp_path / "text.jpg")
    assert main(line) == 2 and "text.jpg cannot be read" in capsys.readouterr().err


def test_results_are_kept_with_what_is_missing(tmp_path):
    results = {"set": {"bbox": {"AP": 12.34, "APr": float("nan")}}}
    save_results(tmp_path / "r.json", results)
    assert json.loads((tmp_path / "r.json").read_text())["set"]["bbox"]["APr"] is None
    loaded = load_results(tmp_path / "r.json")
    assert loaded["set"]["bbox"]["AP"] == 12.34 and np.isnan(loaded["set"]["bbox"]["APr"])
    assert "| set | bbox | 12.3 |" in results_table(loaded)

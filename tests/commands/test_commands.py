"""iif-d2 <command>."""

import argparse
import importlib
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from iif_d2 import ClassFrequency, commands, count_class_frequency
from iif_d2.checkpoint import LongTailCheckpointer
from iif_d2.commands import COMMANDS, main
from iif_d2.commands.arguments import KEYS, SECTIONS, parse
from iif_d2.config import load_config
from iif_d2.evaluation.results import load_results, results_table, save_results

from ..conftest import TINY


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
    assert stop.value.code == 2 and "invalid choice: 'comparee'" in capsys.readouterr().err


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
    "check-data": [["a", "b"], ["--plot", "o"]],
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


def test_every_config_key_is_known_as_one():
    assert set(load_config("")) <= {*SECTIONS, *KEYS}


def test_train_and_eval_do_what_train_net_does(dataset_name, tmp_path):
    config = "Mini-InstanceSegmentation/faster_rcnn_R_18_FPN_iif.yaml"
    assert main(["train", *TINY, "OUTPUT_DIR", str(tmp_path), "--config-file", config]) == 0
    results = tmp_path / "inference" / "results.json"
    trained = json.loads(results.read_text())
    results.unlink()
    weights = ["MODEL.WEIGHTS", str(tmp_path / "model_final.pth")]
    words = [*TINY, "OUTPUT_DIR", str(tmp_path), *weights]
    assert main(["eval", "--config-file", config, *words]) == 0
    assert json.loads(results.read_text()) == trained
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

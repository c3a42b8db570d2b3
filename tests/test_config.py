"""Configs: every shipped file builds, and what is wrong with one's own is said."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from detectron2.modeling import build_model

from iif_d2.config import config_path, load_config
from iif_d2.errors import ConfigError
from iif_d2.methods import (
    METHOD_REGISTRY,
    LongTailMethod,
    default_options,
    method_options,
)

ROOT = Path(__file__).parents[1]
LEAVES = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "configs" / "Mini-InstanceSegmentation").glob("*.yaml")
    if not path.name.startswith("Base-")
)
WITHOUT_FILES = ["MODEL.WEIGHTS", "", "MODEL.TIMM.PRETRAINED", "", "DATASETS.TEST", "()"]


@pytest.mark.parametrize("path", LEAVES)
def test_every_config_builds_its_model_without_any_data(path):
    cfg = load_config(path, [*WITHOUT_FILES, "MODEL.DEVICE", "cpu"])
    methods = [m for m in build_model(cfg).modules() if isinstance(m, LongTailMethod)]
    name = cfg.MODEL.LONG_TAIL.METHOD
    assert Path(path).stem.replace("_", "").lower().endswith(name.lower())
    assert methods and all(type(m) is METHOD_REGISTRY.get(name) for m in methods)
    assert all(m.num_classes == cfg.MODEL.ROI_HEADS.NUM_CLASSES for m in methods)
    assert len(Path(ROOT / path).read_text().splitlines()) <= 25


def test_a_packaged_config_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_iif.yaml"
    assert Path(config_path(name)).samefile(ROOT / "configs" / name)
    assert Path(config_path(f"configs/{name}")).samefile(ROOT / "configs" / name)


def test_so_is_the_base_of_a_config_of_ones_own(tmp_path):
    name = "Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_iif.yaml"
    own = tmp_path / "my.yaml"
    for base in (name, f"configs/{name}", str(ROOT / "configs" / name)):
        own.write_text(
            f'_BASE_: "{base}"\nSOLVER:\n  EPOCHS: 12\nMODEL: {{RESNETS: {{DEPTH: 34}}}}\n'
        )
        cfg = load_config(str(own))
        assert (cfg.SOLVER.EPOCHS, cfg.MODEL.RESNETS.DEPTH) == (12, 34)
        assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 60
        cfg.defrost()
        cfg.SOLVER.EPOCHS, cfg.MODEL.RESNETS.DEPTH = 0, 18
        assert cfg == load_config(name)
    # A file beside it comes first.
    (tmp_path / "Mini-InstanceSegmentation").mkdir()
    (tmp_path / name).write_text("SOLVER: {MAX_ITER: 7}\n")
    own.write_text(f"_BASE_: {name}\n")
    assert load_config(str(own)).SOLVER.MAX_ITER == 7


# Forty lines that stand for 4 * 10^12 values.
BOMB = "a0: &a0 [1, 2]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))


@pytest.mark.parametrize(
    "text, overrides, message",
    [
        ("MODEL: [", (), "not valid yaml"),
        ("MODEL:\n  NO_KEY: 1\n", (), "MODEL.NO_KEY"),
        ("MODEL:\n  LONG_TAIL:\n    COSINE_SCALE: high\n", (), "COSINE_SCALE"),
        ("- 1\n", (), "has no KEY: VALUE"),
        ("_BASE_: own.yaml\n", (), "its own _BASE_"),
        ("_BASE_:\n", (), "own.yaml: _BASE_ is None; name a file"),
        ("_BASE_: ''\n", (), "own.yaml: _BASE_ is ''; name a file"),
        ("MODEL: 3\n", (), "own.yaml: MODEL is 3, and other keys belong under it"),
        ("MODEL: {LONG_TAIL: {IIF: x}}\n", (), "own.yaml: MODEL.LONG_TAIL.IIF is 'x'"),
        ("_BASE_: gone.yaml\n", (), "own.yaml: _BASE_ .*gone.yaml is no file"),
        ("_BASE_: https://x.invalid/a.yaml\n", (), "own.yaml: _BASE_ https.* is an address; down"),
        (BOMB, (), "own.yaml is not valid yaml: an alias in what has an anchor"),
        ("", ("MODEL.LONG_TAIL.METHOD",), "config"),
        ("!!python/object/apply:os.system ['true']\n", (), "not valid yaml"),
        ("VERSION: 7\n", (), "own.yaml: VERSION is 7; write 2"),
        ("VERSION: x\n", (), "own.yaml: VERSION is 'x'; write 2"),
        ("1: 2\n", (), "own.yaml: 1 is a int; keys are words"),
        ("a: " + "- " * 5000, (), "not valid yaml"),
        ("{a: " * 5000, (), "own.yaml is nested too deeply"),
    ],
)
def test_what_is_wrong_with_a_config_is_said(tmp_path, text, overrides, message):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(str(path), list(overrides))


def test_bases_are_bounded_and_the_one_that_is_wrong_is_named(tmp_path):
    for index in range(30):  # as many visits as 2^30
        name = f"{index}.yaml"
        (tmp_path / name).write_text(f"_BASE_: [{index + 1}.yaml, {index + 1}.yaml]\n")
    (tmp_path / "30.yaml").write_text("SEED: 1\n")
    with pytest.raises(ConfigError, match="0.yaml stands on 100 files and more"):
        load_config(str(tmp_path / "0.yaml"))
    assert load_config(str(tmp_path / "25.yaml")).SEED == 1
    (tmp_path / "30.yaml").write_text("a: b: c\n")
    with pytest.raises(ConfigError, match=r"config \S*30.yaml is not valid yaml"):
        load_config(str(tmp_path / "25.yaml"))


def test_an_installation_carries_every_file_of_the_package(tmp_path):
    command = "from setuptools import setup; setup()"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", command, "-q", "build_py", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
    )
    built = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    package = ROOT / "iif_d2"
    ours = {path.relative_to(ROOT) for path in package.rglob("*.*") if path.is_file()}
    configs = {path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml")}
    wanted = {path for path in ours if path.suffix != ".pyc"} | {
        "iif_d2" / path for path in configs
    }
    assert built == wanted


def test_every_option_of_every_method_is_a_key_with_the_same_default():
    cfg = load_config("")
    for name, method in METHOD_REGISTRY:
        if not method.supports_background:
            assert name not in cfg.MODEL.LONG_TAIL, name
            continue
        cfg = load_config("", ["MODEL.LONG_TAIL.METHOD", name])
        options = {k: v for k, v in method_options(cfg).items() if k not in method.given_by_model}
        assert options == default_options(method), name


def test_a_config_that_version_0_1_0_dumped_loads(tmp_path):
    old = {"IIF": {"VARIANT": "base10"}, "DisAlign": {"RHO": 0.8}, "GOL": {"THRESHOLD": 0.001}}
    (tmp_path / "config.yaml").write_text(json.dumps({"MODEL": {"LONG_TAIL": old}}))
    node = load_config(str(tmp_path / "config.yaml")).MODEL.LONG_TAIL
    assert (node.IIF.VARIANT, node.DisAlign.RHO, node.GOL.THRESHOLD) == ("base10", 0.8, 0.001)


def test_a_method_over_two_takes_the_options_of_each_node_down_to_the_last(tiny_cfg):
    keys = {"METHOD": "Calibrated", "Calibrated.BASE": "PCB", "PCB.BASE": "IIF",
            "IIF.VARIANT": "base10", "Calibrated.RULE": "NorCal", "NorCal.GAMMA": "0.3"}  # fmt: skip
    words = [word for key, value in keys.items() for word in (f"MODEL.LONG_TAIL.{key}", value)]
    options = method_options(tiny_cfg("mask_rcnn_R_18_FPN_softmax", *words))
    assert options["base_options"]["base_options"]["variant"] == "base10"
    assert options["rule_options"]["gamma"] == 0.3 and options["base_options"]["max_iter"] == 2
    round_it = [*words[:4], "MODEL.LONG_TAIL.PCB.BASE", "Calibrated"]
    with pytest.raises(ConfigError, match="Calibrated over PCB over Calibrated, which has no end"):
        method_options(tiny_cfg("mask_rcnn_R_18_FPN_softmax", *round_it))


def test_a_method_over_another_takes_the_options_of_that_ones_node(tiny_cfg):
    """And the length of the training, of which it acts in the last part alone."""
    pcb = ("MODEL.LONG_TAIL.METHOD", "PCB", "MODEL.LONG_TAIL.PCB.BASE", "IIF")
    over = ("MODEL.LONG_TAIL.IIF.VARIANT", "base10", "SOLVER.MAX_ITER", "2400")
    cfg = tiny_cfg("mask_rcnn_R_18_FPN_softmax", *pcb, *over)
    options = method_options(cfg)
    assert options["base_options"]["variant"] == "base10" and options["max_iter"] == 2400
    method = build_model(cfg).roi_heads.box_predictor.method
    assert method.base.variant == "base10" and method.first_step == 1700

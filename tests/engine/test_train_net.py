"""The command line: train, resume, evaluate, several processes, and errors that read like sentences."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.engine import default_argument_parser

from iif_d2 import register_long_tail_instances
from iif_d2.engine import launch

from ..conftest import CATEGORY_IDS, TINY, make_dataset

ROOT = Path(__file__).parents[2]
CONFIG = "configs/Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_iif.yaml"


@pytest.fixture(scope="module")
def train_net(dataset_name):
    """The module train_net.py."""
    spec = importlib.util.spec_from_file_location("train_net", ROOT / "train_net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(train_net):
    """train_net.py with arguments, in this process; gives what it logged."""

    def run(folder, *arguments, options=(), config=CONFIG) -> str:
        line = ["--config-file", config, *arguments, *TINY, "OUTPUT_DIR", str(folder), *options]
        launch(train_net.main, default_argument_parser().parse_args(line))
        return (Path(folder) / "log.txt").read_text()

    return run


def results(folder) -> dict:
    return json.loads((Path(folder) / "inference" / "results.json").read_text())["tiny_lvis"]


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory) -> Path:
    """OUTPUT_DIR of a run of two steps and an evaluation."""
    folder = tmp_path_factory.mktemp("run") / "out"
    run(folder, options=["SOLVER.CHECKPOINT_PERIOD", "1"])
    return folder


def test_training_leaves_what_it_should(trained):
    for name in ("model_0000000.pth", "model_final.pth", "config.yaml", "log.txt", "metrics.json"):
        assert (trained / name).is_file(), name
    table = results(trained)
    assert table.keys() == {"bbox", "segm"}
    assert {"AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"} <= table["bbox"].keys()
    with open(trained / "inference" / "tiny_lvis" / "per_class_ap_segm.csv") as file:
        assert len(list(csv.reader(file))) == 1 + 4
    state = torch.load(trained / "model_final.pth", weights_only=True)
    counts = state["model"]["roi_heads.box_predictor.method.image_count"]
    assert counts.tolist()[-1] == 0 and counts.sum() > 0
    assert not list(trained.glob(".*")), "a temporary file was left behind"


def test_resume_goes_on_where_it_stopped(trained, run, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(trained, folder)
    log = run(folder, "--resume", options=["SOLVER.MAX_ITER", "3"])
    assert "Starting training from iteration 2" in log
    assert torch.load(folder / "model_final.pth", weights_only=True)["iteration"] == 2


def test_eval_only_gives_the_same_table_from_the_checkpoint_alone(trained, run, tmp_path):
    weights = ["MODEL.WEIGHTS", str(trained / "model_final.pth")]
    # Without the training data: the counts come with the checkpoint.
    run(tmp_path, "--eval-only", options=[*weights, "DATASETS.TRAIN", "('gone',)"])
    assert results(tmp_path)["bbox"]["AP"] == results(trained)["bbox"]["AP"]


@pytest.mark.parametrize("lvis", [True, False], ids=["lvis", "coco"])
def test_a_test_set_gives_the_servers_file(trained, run, tmp_path, lvis):
    path, root = make_dataset(tmp_path / "data", lvis=lvis)
    content = json.loads(path.read_text())
    del content["annotations"]
    path.write_text(json.dumps(content))
    name = f"tiny_test_{lvis}"
    register_long_tail_instances(name, str(path), str(root))
    options = ["MODEL.WEIGHTS", str(trained / "model_final.pth"), "DATASETS.TEST", f"('{name}',)"]
    options += ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]
    with pytest.raises(SystemExit):
        run(tmp_path, "--eval-only", options=options)
    assert "set TEST.WRITE_RESULTS True" in (tmp_path / "log.txt").read_text()
    run(tmp_path, "--eval-only", options=[*options, "TEST.WRITE_RESULTS", "True"])
    written = tmp_path / "inference" / name / "lvis_instances_results.json"
    found = json.loads(written.read_text())
    assert {record["image_id"] for record in found} <= set(range(1, 9)) and len(found) > 8
    assert {record["category_id"] for record in found} <= set(CATEGORY_IDS)
    assert "segmentation" in found[0]


def test_the_checkpoints_frequencies_win_in_evaluation_the_configs_in_training(
    trained, run, tmp_path
):
    from iif_d2 import ClassFrequency

    other = ClassFrequency(("square", "disc", "bar", "never"), [1, 2, 3, 4], None, 99)
    other.save(tmp_path / "other.json")
    options = [
        "MODEL.WEIGHTS", str(trained / "model_final.pth"),
        "MODEL.LONG_TAIL.FREQUENCY", str(tmp_path / "other.json"),
    ]  # fmt: skip
    log = run(tmp_path / "eval", "--eval-only", options=options)
    assert "The checkpoint's are used" in log and "99 images" in log and "8 images" in log
    log = run(tmp_path / "train", options=[*options, "SOLVER.MAX_ITER", "1", "DATASETS.TEST", "()"])
    assert f"Those of {tmp_path / 'other.json'} are used" in log
    state = torch.load(tmp_path / "train" / "model_final.pth", weights_only=True)["model"]
    assert state["roi_heads.box_predictor.method.image_count"].tolist() == [1, 2, 3, 4]


def test_fine_tuning_from_other_classes_names_the_fresh_layers(trained, run, tmp_path, dataset):
    fewer = json.loads(dataset[0].read_text())
    fewer["categories"].pop()  # "never" has no annotation
    (tmp_path / "fewer.json").write_text(json.dumps(fewer))
    register_long_tail_instances("tiny_fewer", str(tmp_path / "fewer.json"), str(dataset[1]))
    options = [
        "MODEL.WEIGHTS", str(trained / "model_final.pth"), "MODEL.ROI_HEADS.NUM_CLASSES", "3",
        "DATASETS.TRAIN", "('tiny_fewer',)", "DATASETS.TEST", "()",
    ]  # fmt: skip
    log = run(tmp_path / "out", options=options)
    assert "it has 4 classes, MODEL.ROI_HEADS.NUM_CLASSES is 3; these layers start anew" in log
    assert "roi_heads.box_predictor.cls_score.weight (5, 16) for (4, 16)" in log


@pytest.mark.parametrize("launcher", ["launch", "torchrun"])
def test_two_processes_on_cpu_give_the_same_kind_of_table(dataset, trained, tmp_path, launcher):
    # A train_net.py of one's own: this one, and the data set's registration.
    register = (
        f"register_long_tail_instances('tiny_lvis', {str(dataset[0])!r}, {str(dataset[1])!r})"
    )
    script = tmp_path / "train_net.py"
    script.write_text(
        (ROOT / "train_net.py").read_text().replace(
            'if __name__ == "__main__":',
            f'from iif_d2 import register_long_tail_instances\n{register}\nif __name__ == "__main__":',
        )
    )  # fmt: skip
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    processes = ["--num-gpus", "2", "--dist-url", "auto"]
    command = [
        sys.executable, "-W", "ignore", *(torchrun if launcher == "torchrun" else ()), str(script),
        "--config-file", CONFIG, *(processes if launcher == "launch" else ()),
        *TINY, "OUTPUT_DIR", str(tmp_path / "out"),
    ]  # fmt: skip
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "World size: 2" in (tmp_path / "out" / "log.txt").read_text()
    assert results(tmp_path / "out")["bbox"].keys() == results(trained)["bbox"].keys()


BAD = {
    "no config": (["--eval-only"], [], "no-such.yaml", "no-such.yaml does not exist"),
    "unknown key": ([], ["MODEL.NO_KEY", "1"], CONFIG, "Non-existent key: MODEL.NO_KEY"),
    "unknown method": ([], ["MODEL.LONG_TAIL.METHOD", "IFF"], CONFIG, "unknown method 'IFF'; known:"),
    "unknown variant": ([], ["MODEL.LONG_TAIL.IIF.VARIANT", "rwa"], CONFIG, "unknown IIF variant 'rwa'"),
    "class count": ([], ["MODEL.ROI_HEADS.NUM_CLASSES", "9"], CONFIG, "has 4 classes; set it to 4"),
    "no weights": (["--eval-only"], [], CONFIG, "set MODEL.WEIGHTS"),
    "gone weights": (["--eval-only"], ["MODEL.WEIGHTS", "gone.pth"], CONFIG, "gone.pth does not exist"),
    "unknown part": ([], ["MODEL.BACKBONE.NAME", "nope"], CONFIG, "the model cannot be built from this config: KeyError No object named 'nope'"),
    "no batch": ([], ["SOLVER.IMS_PER_BATCH", "0"], CONFIG, "SOLVER.IMS_PER_BATCH is 0"),
    "cosine scale": ([], ["MODEL.LONG_TAIL.CLASSIFIER", "cosine", "MODEL.LONG_TAIL.COSINE_SCALE", "-1.0"], CONFIG, "must be above 0"),
    "proposals": ([], ["MODEL.LOAD_PROPOSALS", "True"], CONFIG, "a pickle, which can run code"),
    "unknown data": ([], ["DATASETS.TRAIN", "('nope',)"], CONFIG, "'nope'"),
}  # fmt: skip


def last_line(capsys) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("arguments, options, config, message", BAD.values(), ids=BAD.keys())
def test_bad_input_ends_in_a_sentence_and_exit_code_2(
    run, tmp_path, capsys, arguments, options, config, message
):
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "out", *arguments, options=options, config=config)
    assert stop.value.code == 2
    line = last_line(capsys)
    assert line.startswith("error: ") and message in line


@pytest.mark.parametrize("arguments", [["--resume"], ["--eval-only"]], ids=lambda words: words[0])
def test_a_run_that_cannot_start_changes_no_output(run, trained, capsys, arguments):
    kept = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file() and p.name != "log.txt"}
    with pytest.raises(SystemExit):
        run(
            trained,
            *arguments,
            options=["MODEL.WEIGHTS", "gone.pth", "MODEL.ROI_HEADS.NUM_CLASSES", "9"],
        )
    assert kept == {p: p.read_bytes() for p in kept}


SPOILT = {
    "no images": (
        lambda c: c.update(images=[], annotations=[]),
        "spoilt.json: 'images' is empty",
    ),
    "no annotations": (
        lambda c: c.update(annotations=[]),
        "spoilt.json: no class has a single training image",
    ),
    "no masks": (
        lambda c: [a.pop("segmentation") for a in c["annotations"]],
        "set MODEL.MASK_ON to False",
    ),
    "other sizes": (
        lambda c: [i.update(width=63) for i in c["images"]],
        "correct its width and height",
    ),
    "other runs": (
        lambda c: c["annotations"][0].update(segmentation={"size": [64, 64], "counts": [3]}),
        "annotations[0].segmentation has counts that are not the runs of 4096 pixels",
    ),
}


@pytest.mark.parametrize("spoil, message", SPOILT.values(), ids=SPOILT.keys())
def test_spoilt_annotations_end_in_a_sentence(
    dataset, run, tmp_path, capsys, request, spoil, message
):
    content = json.loads(dataset[0].read_text())
    spoil(content)
    (tmp_path / "spoilt.json").write_text(json.dumps(content))
    name = request.node.name
    register_long_tail_instances(name, str(tmp_path / "spoilt.json"), str(dataset[1]))
    with pytest.raises(SystemExit):
        run(tmp_path / "out", options=["DATASETS.TRAIN", f"({name!r},)", "DATASETS.TEST", "()"])
    assert message in last_line(capsys)


def test_training_and_evaluation_need_no_network(run, tmp_path, monkeypatch):
    def refuse(*args, **_):
        raise AssertionError(f"the network was asked for {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    run(tmp_path / "out")
    assert results(tmp_path / "out")
    # A config that names a URL is another matter.
    with pytest.raises((SystemExit, AssertionError)):
        run(
            tmp_path / "url",
            "--eval-only",
            options=["MODEL.WEIGHTS", "https://example.invalid/a.pth"],
        )


def test_a_packaged_config_is_found_from_another_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["SOLVER.MAX_ITER", "1", "DATASETS.TEST", "()"]
    run(tmp_path / "out", options=options, config=CONFIG.removeprefix("configs/"))
    assert (tmp_path / "out" / "model_final.pth").is_file()


def test_a_checkpoint_of_other_classes_is_refused(trained, run, tmp_path, capsys):
    other = ["MODEL.ROI_HEADS.NUM_CLASSES", "5", "DATASETS.TEST", "()"]
    weights = ["MODEL.WEIGHTS", str(trained / "model_final.pth")]
    with pytest.raises(SystemExit):
        run(tmp_path / "out", "--eval-only", options=[*other, *weights])
    assert "it has 4 classes, MODEL.ROI_HEADS.NUM_CLASSES is 5" in last_line(capsys)


def test_a_damaged_checkpoint_is_named(trained, run, tmp_path, capsys):
    content = (trained / "model_final.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(SystemExit):
        run(tmp_path, "--eval-only", options=["MODEL.WEIGHTS", str(tmp_path / "cut.pth")])
    assert "cut.pth cannot be read" in last_line(capsys)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_missing_picture_is_named_from_any_process(dataset, run, tmp_path, capsys, workers):
    lost = json.loads(dataset[0].read_text())
    for image in lost["images"]:
        image["coco_url"] = image["coco_url"].replace(".png", "-lost.png")
    (tmp_path / "lost.json").write_text(json.dumps(lost))
    name = f"tiny_lost_{workers}"
    register_long_tail_instances(name, str(tmp_path / "lost.json"), str(dataset[1]))
    with pytest.raises(SystemExit):
        run(tmp_path, options=["DATASETS.TRAIN", f"('{name}',)", "DATALOADER.NUM_WORKERS", workers])
    line = last_line(capsys)
    assert "-lost.png" in line and "does not exist; check the image root" in line

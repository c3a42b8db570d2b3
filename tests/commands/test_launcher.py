"""--launcher: runs as jobs of submitit, tried with its local executor."""

import sys
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

import iif_d2
from iif_d2.checkpoint import LongTailCheckpointer
from iif_d2.commands import main
from iif_d2.config import config_path, load_config
from iif_d2.engine.jobs import Jobs
from iif_d2.errors import ConfigError, DataError

from ..conftest import TINY, finding_model, make_dataset

MY_DATA = """
from iif_d2 import register_long_tail_instances
register_long_tail_instances("launched", {json!r}, {images!r})
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a module that registers a data set, and a config on it."""
    path, images = make_dataset(tmp_path, lvis=False)
    (tmp_path / "my_launched_data.py").write_text(
        MY_DATA.format(json=str(path), images=str(images))
    )
    name = config_path("Mini-InstanceSegmentation/faster_rcnn_R_18_FPN_iif.yaml")
    data = ["DATASETS.TRAIN", "('launched',)", "DATASETS.TEST", "('launched',)"]
    (tmp_path / "my.yaml").write_text(load_config(name, [*TINY, *data]).dump())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", str(Path(iif_d2.__file__).parents[1]))
    yield tmp_path
    sys.modules.pop("my_launched_data", None)  # else the next test's module would not be imported
    for catalog in (DatasetCatalog, MetadataCatalog):
        if "launched" in catalog:
            catalog.pop("launched")


def test_each_run_of_a_comparison_is_a_job(project, capsys):
    """And NorCal's waits for the model that it stands on."""
    words = ["compare", "--import", "my_launched_data", "--config-file", "my.yaml", "--methods",
             "NorCal", "--output", "out", "--launcher", "local"]  # fmt: skip
    assert main(words) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in printed[2:4]] == ["| Softmax", "| NorCal"]
    assert not any("not run" in line for line in printed)
    assert (project / "out/runs/softmax/seed0/model_final.pth").is_file()
    assert len(list((project / "out/jobs").glob("*_submitted.pkl"))) == 2
    assert main(words) == 0  # all is done: nothing is started
    assert len(list((project / "out/jobs").glob("*_submitted.pkl"))) == 2


def test_a_sweep_is_one_job(project, capsys):
    cfg = load_config("my.yaml", ["MODEL.LONG_TAIL.METHOD", "Softmax"])
    LongTailCheckpointer(finding_model(cfg), str(project)).save("model")
    words = ["sweep", "--import", "my_launched_data", "--config-file", "my.yaml", "--output", "swept",
             "--variants", "raw", "--statistics", "image", "--strengths", "0.5", "--gammas", "",
             "--taus", "", "--lambdas", "", "MODEL.LONG_TAIL.METHOD", "Softmax", "MODEL.WEIGHTS",
             "model.pth"]  # fmt: skip
    assert main(words) == 0
    here = (capsys.readouterr().out, (project / "swept/sweep.csv").read_text())
    (project / "swept/sweep.csv").unlink()
    assert main([*words, "--launcher", "local"]) == 0
    assert (capsys.readouterr().out, (project / "swept/sweep.csv").read_text()) == here
    assert len(list((project / "swept/jobs").glob("*_submitted.pkl"))) == 1


def test_what_goes_wrong_in_a_job_is_said(project):
    jobs = Jobs("local", "jobs")
    with pytest.raises(ConfigError, match="config file gone.yaml does not exist"):
        jobs.run(load_config, "gone.yaml")
    with pytest.raises(DataError, match=r"job \d+ failed; see .*\.err"):
        jobs.run(int, "no number")


def test_an_interruption_ends_the_jobs_and_an_error_does_not(tmp_path, monkeypatch):
    jobs, cancelled = Jobs("local", str(tmp_path)), []
    monkeypatch.setattr(jobs, "cancel", lambda: cancelled.append(1))
    for error, times in ((DataError("bad"), 0), (KeyboardInterrupt(), 1), (SystemExit(143), 2)):
        with pytest.raises(type(error)), jobs:
            raise error
        assert len(cancelled) == times


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["local", "--launcher-options", "gpus"], "gpus is no KEY=VALUE"),
        (["local", "--launcher-options", "no_such=1"], "no_such"),
        (["slurm", "--launcher-options", "timeout_min=5"], "--launcher slurm"),
    ],
)
def test_a_launcher_that_cannot_be_is_refused(words, said, project, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")  # no Slurm
    line = [
        "compare",
        "--import",
        "my_launched_data",
        "--config-file",
        "my.yaml",
        "--methods",
        "IIF",
    ]
    assert main([*line, "--output", "out", "--launcher", *words]) == 2
    assert said in capsys.readouterr().err
    assert not (project / "out" / "runs").exists()

"""A resume is exact, and refuses what it cannot go on from."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from iif_classification.engine import Ranks, load_model

from iif_d2.errors import CheckpointError
from iif_d2.files import hold_folder

from .helpers import PROJECT, trainer_of


class Stop(Exception):
    """The power fails."""


def stop_after(trainer, steps):
    """Let the trainer take this many steps and fail."""
    step, taken = trainer.run_step, []

    def counted(images, labels):
        if len(taken) == steps:
            raise Stop
        taken.append(1)
        return step(images, labels)

    trainer.run_step = counted
    with pytest.raises(Stop):
        trainer.train()


@pytest.mark.parametrize("stop", [3, 9, 14])  # in the first epoch, the second, after the last step
def test_resume_is_exact(config, stop):
    options = ("METHOD.NAME", "LDAM", "METHOD.DEFERRED_FROM", 0.5, "SOLVER.CHECKPOINT_STEPS", 2)
    whole = trainer_of(config(*options, output="whole"))
    whole.train()
    assert int(whole.model.method.epoch) == whole.model.method.deferred_epoch == 1
    broken = trainer_of(config(*options, output="broken"))
    if stop < 14:
        stop_after(broken, stop)
    else:
        broken.train()
    torch.manual_seed(99)
    again = trainer_of(config(*options, output="broken"))
    assert again.resume()
    assert again.epoch * 7 + again.step == {3: 2, 9: 9 // 7 * 7 + 2, 14: 14}[stop]
    again.train()
    one, other = whole.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)
    momenta = [t.optimizer.state_dict()["state"] for t in (whole, again)]
    assert all(torch.equal(momenta[0][i]["momentum_buffer"], momenta[1][i]["momentum_buffer"])
               for i in momenta[0])  # fmt: skip


def test_resume_refuses_another_run_and_damaged_files(config, tmp_path):
    trainer = trainer_of(config("SOLVER.EPOCHS", 1))
    assert not trainer.resume()
    trainer.train()
    with pytest.raises(CheckpointError, match="SOLVER.LR 0.1, the config says 0.2"):
        trainer_of(config("SOLVER.EPOCHS", 1, "SOLVER.LR", 0.2)).resume()
    with pytest.raises(CheckpointError, match="by 1 ranks"):
        trainer.ranks = Ranks(0, 2)
        trainer.resume()
    path = os.path.join(trainer.cfg.OUTPUT_DIR, "last.pth")
    with open(path, "rb") as file:
        content = file.read()
    for damaged in (content[: len(content) // 2], b"", b"not a checkpoint"):
        with open(path, "wb") as file:
            file.write(damaged)
        with pytest.raises(CheckpointError, match="last.pth cannot be read"):
            trainer_of(config("SOLVER.EPOCHS", 1)).resume()
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_model(str(tmp_path / "nowhere.pth"))


def test_a_run_that_cannot_start_changes_no_file(trained, tmp_path):
    folder = shutil.copytree(trained[0].OUTPUT_DIR, tmp_path / "run")
    (folder / "config.yaml").write_text(trained[0].dump())

    def start(*options):
        words = [sys.executable, "train_net.py", "--config-file", str(folder / "config.yaml")]
        words += ["--resume", "OUTPUT_DIR", str(folder), *options]
        return subprocess.run(words, cwd=PROJECT, capture_output=True, text=True)

    def content():
        files = (path for path in folder.iterdir() if path.name not in ("log.txt", "run.lock"))
        return {path.name: path.read_bytes() for path in files}

    before = content()
    other = start("SOLVER.LR", "0.3")
    assert other.returncode == 2 and "the config says 0.3" in other.stdout, other.stderr
    hold_folder(str(folder))
    second = start()
    assert second.returncode == 2 and "another run trains in" in second.stdout, second.stderr
    assert content() == before

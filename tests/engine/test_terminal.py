"""What a user sees: the usage, one sentence for an error, one line for Ctrl-C, nobody's warnings."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from detectron2.engine import default_argument_parser

from iif_d2.engine import LongTailTrainer, launch, main
from iif_d2.engine.terminal import LOG_ONLY, keep_tracebacks_off_terminal
from iif_d2.errors import EXIT_BAD_INPUT, DataError

from ..conftest import TINY

ROOT = Path(__file__).parents[2]
CONFIG = ["--config-file", "Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_iif.yaml"]


def run(line: list[str], capsys) -> tuple[int, list[str]]:
    """The exit code of train_net.py, and its lines on stderr."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        launch(main, default_argument_parser().parse_args(line))
    return stop.value.code, capsys.readouterr().err.strip().splitlines()


def test_without_arguments_there_is_the_usage_and_no_file(tmp_path):
    result = subprocess.run(
        [sys.executable, str(ROOT / "train_net.py")], cwd=tmp_path, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    assert result.returncode == EXIT_BAD_INPUT
    # Also, the imports warn of nothing.
    assert result.stderr.startswith("usage: train_net.py") and "--config-file" in result.stderr
    assert not list(tmp_path.iterdir())


def test_an_error_before_there_is_a_log_is_said_once(tmp_path):
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(ROOT / "train_net.py"), "--config-file", "gone.yaml"],
        cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    assert result.returncode == EXIT_BAD_INPUT
    assert result.stderr.startswith("error: config file gone.yaml does not exist")
    assert result.stderr.count("gone.yaml") == 1


@pytest.mark.parametrize("flag", ["--eval-only", "--resume", "--num-gpus=2"])
def test_an_option_behind_the_overrides_is_not_taken_for_one(tmp_path, capsys, flag):
    code, said = run([*CONFIG, "OUTPUT_DIR", str(tmp_path / "out"), flag], capsys)
    assert code == 2 and said[-1].startswith(f"error: {flag} stands behind KEY VALUE")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [[], ["--eval-only"]], ids=["training", "evaluating"])
def test_an_output_dir_that_is_a_file_is_said(tmp_path, capsys, arguments):
    (tmp_path / "out").write_text("")
    code, said = run([*CONFIG, *arguments, "OUTPUT_DIR", str(tmp_path / "out")], capsys)
    assert code == 2 and said[-1].startswith("error: ") and "out cannot be written" in said[-1]


@pytest.mark.parametrize("saved", ["a checkpoint", "none"])
def test_ctrl_c_ends_training_in_a_line(dataset_name, tmp_path, capsys, monkeypatch, saved):
    step = LongTailTrainer.run_step

    def interrupted(trainer):
        if trainer.iter == 1:
            signal.raise_signal(signal.SIGINT)
        step(trainer)

    monkeypatch.setattr(LongTailTrainer, "run_step", interrupted)
    before = signal.getsignal(signal.SIGINT)
    period = ["SOLVER.CHECKPOINT_PERIOD", "1" if saved == "a checkpoint" else "9"]
    options = [*TINY, "DATASETS.TEST", "()", "OUTPUT_DIR", str(tmp_path)]
    code, said = run([*CONFIG, *options, *period], capsys)
    assert code == 130 and sum(line.startswith("stopped by Ctrl-C") for line in said) == 1
    assert said[-1].startswith("stopped by Ctrl-C: training was at iteration 1 of 2, ")
    last = f"{tmp_path / 'model_0000000.pth'}; go on with --resume"
    assert said[-1].endswith(last if saved == "a checkpoint" else "no checkpoint was saved yet")
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_ends_anything_else_in_a_line(capsys):
    def evaluating(args):
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(SystemExit) as stop:
        args = Namespace(config_file="x", opts=[], num_gpus=1, num_machines=1, machine_rank=0,
                         dist_url="auto")  # fmt: skip
        launch(evaluating, args)
    assert stop.value.code == 130
    assert capsys.readouterr().err == "stopped by Ctrl-C: there is no result of this run\n"


SPEAKING = """
from argparse import Namespace
from iif_d2.engine import launch
from iif_d2.errors import DataError
from detectron2.utils import comm
import sys
module = sys.modules["iif_d2.engine.launch"]

def main(args):
    module._MAIN_FIRST = 2
    rank = comm.get_rank()
    if rank in args.bad:
        raise DataError(f"image {rank}.png is cut short")
    comm.synchronize()

if __name__ == "__main__":
    launch(main, Namespace(config_file="x", opts=[], num_gpus=3, num_machines=1, machine_rank=0,
                           dist_url="auto", bad=[int(rank) for rank in sys.argv[1]]))
"""


def test_of_ranks_with_different_errors_one_speaks(tmp_path):
    """And rank 0, which waits for them, shows no traceback of its own."""
    (tmp_path / "speaking.py").write_text(SPEAKING)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "speaking.py", "12"], cwd=tmp_path, capture_output=True,
        text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    said = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == EXIT_BAD_INPUT and "Traceback" not in result.stderr
    assert said == ["error: image 1.png is cut short"]


def test_a_traceback_is_for_the_log_alone(tmp_path, capsys):
    logger = logging.getLogger("detectron2")
    handlers = [logging.StreamHandler(sys.stdout), logging.FileHandler(tmp_path / "log.txt")]
    for handler in handlers:
        logger.addHandler(handler)
    keep_tracebacks_off_terminal()
    try:
        for error in (DataError("a.png is cut short"), ValueError("a fault of the code")):
            try:
                raise error
            except Exception:
                logger.exception("Exception during training:")
        logger.error("said elsewhere", extra=LOG_ONLY)
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
    shown, written = capsys.readouterr().out, (tmp_path / "log.txt").read_text()
    assert "cut short" not in shown and "ValueError: a fault of the code" in shown
    assert "said elsewhere" not in shown
    assert written.count("Traceback") == 2 and "said elsewhere" in written

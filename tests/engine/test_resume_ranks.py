"""Two processes, resumed, end as if they had not been stopped: averages, best model, batches in parts."""

import shutil
import subprocess
import sys
from pathlib import Path

import torch

from iif_d2.engine.averaging import WeightAverage

from ..conftest import TINY
from ..stress import runs

ROOT = Path(__file__).parents[2]
OPTIONS = (
    "SOLVER.MAX_ITER", "8", "SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.IMS_PER_BATCH", "4",
    "SOLVER.ACCUMULATE", "2", "MODEL_EMA.ENABLED", "True", "MODEL_EMA.DECAY", "0.8",
    "TEST.EVAL_PERIOD", "2", "TEST.BEST_METRIC", "segm/APr", "TEST.PATIENCE", "2", "SEED", "1",
)  # fmt: skip
SCRIPT = """
import sys
import torch
from detectron2.engine import default_argument_parser
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from iif_d2 import register_long_tail_instances
from iif_d2.engine import LongTailTrainer, launch, main

APR = {{2: 3.0, 4: 2.0, 6: 1.0}}  # by the iterations done: the second after the best ends it

def test(cls, cfg, model):
    apr = APR[min(get_event_storage().iter + 1, 6)]
    torch.save(model.module.state_dict(), f"{{cfg.OUTPUT_DIR}}/rank{{comm.get_rank()}}.pth")
    return {{"segm": {{"APr": apr}}}} if comm.is_main_process() else {{}}

LongTailTrainer.test = classmethod(test)
register_long_tail_instances("tiny_lvis", {json!r}, {images!r})
if __name__ == "__main__":
    launch(main, default_argument_parser().parse_args())
"""


def train(script, folder, *flags):
    command = [
        sys.executable, "-W", "ignore", str(script), "--config-file", runs.CONFIG,
        "--num-gpus", "2", "--dist-url", "auto", *flags, *TINY, *OPTIONS, "OUTPUT_DIR", str(folder),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_resumed_end_the_same(dataset, tmp_path):
    script = tmp_path / "train_net.py"
    script.write_text(SCRIPT.format(json=str(dataset[0]), images=str(dataset[1])))
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train(script, whole)
    final = runs.load(whole, "model_final")
    assert final["iteration"] == 5 and runs.load(whole, "model_best")["iteration"] == 1
    # Each rank has evaluated the average, which is the same.
    learned = final["trainer"]["hooks"][WeightAverage.__name__]["weights"]
    for rank in (0, 1):
        evaluated = torch.load(whole / f"rank{rank}.pth", weights_only=True)
        for name in learned:
            same = torch.equal(evaluated[name], final["model"][name])
            assert same or (rank and "running" in name), name
    assert any(not torch.equal(raw, final["model"][name]) for name, raw in learned.items())
    resumed.mkdir()
    shutil.copy(whole / "model_0000003.pth", resumed)
    shutil.copy(whole / "model_best.pth", resumed)
    (resumed / "last_checkpoint").write_text("model_0000003.pth")
    train(script, resumed, "--resume")
    for name in ("model_final", "model_best"):
        assert not runs.difference(runs.load(whole, name), runs.load(resumed, name))

"""Two machines, each a torchrun of its own, keep the same weights on a real LVIS recipe."""

import subprocess
import sys
from pathlib import Path

import torch

from ..conftest import TINY, free_port

ROOT = Path(__file__).parents[2]
NARROW = [
    "MODEL.WEIGHTS", "",
    "MODEL.RESNETS.DEPTH", "18",
    "MODEL.RESNETS.RES2_OUT_CHANNELS", "64",
    "MODEL.BACKBONE.FREEZE_AT", "0",
    "SOLVER.REFERENCE_WORLD_SIZE", "0",  # three steps of two images, whatever the world
]  # fmt: skip
SCRIPT = """
import torch
from detectron2.engine import default_argument_parser
from detectron2.utils import comm
from iif_d2 import register_long_tail_instances
from iif_d2.engine import LongTailTrainer, launch, setup

def main(args):
    with setup(args) as cfg:
        trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=False)
    before = {{key: value.clone() for key, value in trainer.model.module.state_dict().items()}}
    seen = []
    read = trainer._trainer._data_loader_iter
    trainer._trainer._data_loader_iter_obj = (seen.extend(d["image_id"] for d in b) or b for b in read)
    trainer.train()
    after = trainer.model.module.state_dict()
    torch.save({{"before": before, "after": after, "seen": seen}}, f"{folder}/{{comm.get_rank()}}.pth")

register_long_tail_instances("tiny_lvis", {json!r}, {images!r})
if __name__ == "__main__":
    launch(main, default_argument_parser().parse_args())
"""


def test_both_ranks_have_the_same_weights_after_three_steps(dataset, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(folder=tmp_path, json=str(dataset[0]), images=str(dataset[1])))
    port = free_port()
    machines = [
        subprocess.Popen(
            [
                sys.executable, "-W", "ignore", "-m", "torch.distributed.run",
                "--nnodes", "2", "--node_rank", str(rank), "--nproc_per_node", "1",
                "--master_addr", "127.0.0.1", "--master_port", str(port), str(script),
                "--config-file", "configs/LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
                *TINY, *NARROW, "SOLVER.MAX_ITER", "3", "SEED", "1", "DATASETS.TEST", "()",
                "OUTPUT_DIR", str(tmp_path / "out"),
            ],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        for machine in machines:
            _, errors = machine.communicate(timeout=300)
            assert machine.returncode == 0, errors
    finally:
        for machine in machines:
            machine.kill()
    first, second = (torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in range(2))
    assert first["after"].keys() == second["after"].keys()
    for key, value in first["after"].items():
        assert torch.equal(value, second["after"][key]), key
    moved = {key for key, value in first["after"].items() if (value != first["before"][key]).any()}
    assert any("cls_score" in key for key in moved) and any("bottom_up" in key for key in moved)
    # With the same images on both, equal weights would show nothing.
    assert len(first["seen"]) == len(second["seen"]) == 3 and first["seen"] != second["seen"]

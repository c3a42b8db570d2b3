"""Memory and open files over many evaluations of a tiny set."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

EVALUATIONS = int(os.environ.get("IIF_D2_SOAK_EVALUATIONS", "10000"))


def run() -> list[str]:
    import torch
    from detectron2.structures import Boxes, Instances

    from iif_d2 import register_long_tail_instances
    from iif_d2.evaluation import LongTailEvaluator

    from ..conftest import SIZE, make_dataset

    memory, files = [], []
    with tempfile.TemporaryDirectory() as root:
        register_long_tail_instances("soak_lvis", *map(str, make_dataset(Path(root) / "data")))
        found = Instances((SIZE, SIZE))
        found.pred_boxes = Boxes(torch.tensor([[2.0, 2.0, 30.0, 30.0], [5.0, 5.0, 40.0, 40.0]]))
        found.scores, found.pred_classes = torch.tensor([0.9, 0.5]), torch.tensor([0, 1])
        inputs = [{"image_id": number} for number in range(1, 9)]
        for _ in range(EVALUATIONS):
            evaluator = LongTailEvaluator("soak_lvis", root, ("bbox",), write_results=True)
            evaluator.process(inputs, [{"instances": found}] * len(inputs))
            assert "AP" in evaluator.evaluate()["bbox"]
            memory.append(_resident_mb())
            files.append(len(os.listdir("/proc/self/fd")))
    early, late = EVALUATIONS // 10, EVALUATIONS - 1
    return [
        f"{EVALUATIONS} evaluations: memory {memory[early]:.1f} MB after a tenth of them, "
        f"{memory[late]:.1f} MB at the end; open files {files[early]} and {files[late]}"
    ]


def _resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

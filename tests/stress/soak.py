"""An hour's training of mini_lvis and 10,000 evaluations: memory and open files stay flat."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..conftest import TINY
from . import Outcome
from .usage import Usage, growth, of_settled_tree, of_tree, summary

MINUTES = float(os.environ.get("IIF_D2_SOAK_MINUTES", "60"))
EVALUATIONS = int(os.environ.get("IIF_D2_SOAK_EVALUATIONS", "10000"))
CONFIG = "configs/Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_iif.yaml"
PERIOD = 2.0  # seconds between two looks at a run
LEAST = 8  # evaluations in a run that is long enough to judge it, two a quarter
# TINY's small heads, with mini_lvis in place of its data and two loader workers.
OPTIONS = (
    *TINY, "MODEL.ROI_HEADS.NUM_CLASSES", "60", "INPUT.MASK_FORMAT", "bitmask",
    "DATASETS.TRAIN", "('mini_lvis_train',)", "DATASETS.TEST", "('mini_lvis_val',)",
    "DATALOADER.NUM_WORKERS", "2", "DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler",
    "SOLVER.MAX_ITER", "1000000", "SOLVER.CHECKPOINT_PERIOD", "250", "TEST.EVAL_PERIOD", "400",
)  # fmt: skip


def run() -> Outcome:
    """Both, or what the environment leaves of them; raises AssertionError if one grows."""
    lines, lost = [], []
    with tempfile.TemporaryDirectory() as root:
        for do, much in ((evaluate, EVALUATIONS), (train, MINUTES)):
            try:
                lines += [do(Path(root), much)] if much else []
            except AssertionError as error:
                lost.append(str(error))
    assert not lost, "; ".join([*lost, *lines])
    return Outcome(EVALUATIONS + bool(MINUTES), lines)


def train(root: Path, minutes: float) -> str:
    """train_net.py's own process with its workers, watched, and sent SIGTERM when time is up."""
    folder, said = root / "run", root / "run.out"
    with open(said, "wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "train_net.py", "--config-file", CONFIG, *OPTIONS,
             "OUTPUT_DIR", str(folder)],
            stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env={**os.environ, "DETECTRON2_DATASETS": str(root / "datasets")},
        )  # fmt: skip
    try:
        series = _watch(process, folder, time.monotonic() + 60 * minutes)
        assert process.poll() is None, f"ended early: {said.read_text()[-2000:]}"
        process.send_signal(signal.SIGTERM)
        code = process.wait(300)
    finally:
        process.kill()
    assert code == 143, f"exit code {code} after SIGTERM: {said.read_text()[-2000:]}"
    records = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    steps = 1 + max(record["iteration"] for record in records)
    evaluations = sum("segm/AP" in record for record in records)
    what = (
        f"{minutes:g} minutes of training mini_lvis, {steps} steps, {evaluations} evaluations of "
        f"480 images, {steps // 250} checkpoints, process and workers"
    )
    assert evaluations >= LEAST, f"{what} are too few to tell; {summary(series)}"
    return _flat(what, series)


def _watch(process: subprocess.Popen, folder: Path, until: float) -> list[Usage]:
    """The run's use of memory and files; of its checkpoints the last three are kept."""
    series, started, start = [], None, time.monotonic()
    while time.monotonic() < until and process.poll() is None:
        time.sleep(PERIOD)
        # Making the data set and building the model are no part of it.
        if started is None and (folder / "metrics.json").is_file():
            started = len(series)
        series.append(of_settled_tree(process.pid))
        for old in sorted(folder.glob("model_*.pth"))[:-3]:
            old.unlink()
        if len(series) % 150 == 0:
            spent = time.monotonic() - start
            print(f"soak: {spent / 60:.0f} min: {series[-1]}", flush=True)
    return series[started or 0 :]


def evaluate(root: Path, evaluations: int) -> str:
    """Evaluations in this process, of boxes and masks, with all their files written."""
    step = _evaluation(root)
    series, start = [], time.monotonic()
    for number in range(1, evaluations + 1):
        step()
        if number % max(1, evaluations // 1000) == 0:
            series.append(of_tree(os.getpid()))
        if number % max(1, evaluations // 10) == 0:
            spent = time.monotonic() - start
            print(f"soak: {number} evaluations in {spent:.0f} s: {series[-1]}", flush=True)
    milliseconds = 1000 * (time.monotonic() - start) / evaluations
    what = f"{evaluations} evaluations of 8 images, boxes and masks, {milliseconds:.0f} ms each"
    return _flat(what, series)


def _evaluation(root: Path) -> Callable[[], None]:
    import torch
    from detectron2.data import DatasetCatalog
    from detectron2.structures import Boxes, Instances
    from pycocotools import mask

    from iif_d2 import register_long_tail_instances
    from iif_d2.evaluation import LongTailEvaluator

    from ..conftest import SIZE, make_dataset

    register_long_tail_instances("soak_lvis", *map(str, make_dataset(root / "data")))
    records = DatasetCatalog.get("soak_lvis")
    outputs = []
    for record in records:  # what is annotated, found a little to the right
        objects, found = record["annotations"], Instances((SIZE, SIZE))
        boxes = torch.tensor([o["bbox"] for o in objects]).reshape(-1, 4)
        found.pred_boxes = Boxes(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1) + 1)
        found.scores = torch.linspace(0.9, 0.5, len(objects))
        found.pred_classes = torch.tensor([o["category_id"] for o in objects], dtype=torch.long)
        found.pred_masks_rle = [
            mask.merge(mask.frPyObjects(o["segmentation"], SIZE, SIZE)) for o in objects
        ]
        outputs.append({"instances": found})

    def step() -> None:
        evaluator = LongTailEvaluator("soak_lvis", str(root / "evaluated"), write_results=True)
        evaluator.process(records, outputs)
        results = evaluator.evaluate()
        assert results["bbox"]["AP"] > 0 and results["segm"]["AP"] > 0, results

    return step


def _flat(what: str, series: Sequence[Usage]) -> str:
    """The figures, which must not grow."""
    problem = growth(series)
    assert not problem, f"{what}: {problem}; {summary(series)}"
    return f"{what}: {summary(series)}"

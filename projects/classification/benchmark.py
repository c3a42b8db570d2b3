"""How fast a config trains here, beside a bare PyTorch loop over the same model and batch.

python projects/classification/benchmark.py --config-file FILE [--steps N] [KEY VALUE ...]
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from iif_classification.config import load_config
from iif_classification.data import build_loader, build_splits
from iif_classification.engine import Ranks, Trainer
from iif_classification.engine.preprocess import autocast
from iif_classification.modeling import build_model

from iif_d2.errors import IIFError
from train_net import find_config  # first: it finds the packages

VARIANTS = (("", False), ("", True), ("bf16", True))


def bare_step(cfg, model, images, labels, device) -> Callable[[], None]:
    """Forward, cross-entropy, backward and SGD on one ready batch: nothing could be left out."""
    solver = cfg.SOLVER
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad],
        solver.LR, solver.MOMENTUM, weight_decay=solver.WEIGHT_DECAY,
    )  # fmt: skip

    def step() -> None:
        with autocast(solver.AMP, device):
            loss = F.cross_entropy(model.classifier(model.backbone(images)).float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def measure(cfg, splits, steps: int, ranks: Ranks) -> tuple[float, float, float]:
    """Images a second of the trainer and of the bare loop, and the ratio of their processor times.

    Steps alternate, so that both meet the same disturbances; the trainer's include loading,
    augmentation, mixup, the method's loss and the schedule.
    """
    frequency = splits.train.frequency()
    memory = torch.channels_last if cfg.MODEL.CHANNELS_LAST else torch.contiguous_format
    model = build_model(cfg, frequency).to(ranks.device, memory_format=memory)
    bare_model = copy.deepcopy(model)
    loader = build_loader(cfg, splits.train, ranks.device)
    trainer = Trainer(cfg, model, loader, frequency, ranks)
    batches = (batch for epoch in range(10**6) for batch in loader.batches(epoch))
    images, labels = next(batches)
    bare = bare_step(cfg, bare_model, trainer.prepare(images), labels, ranks.device)

    def ours() -> None:
        trainer.run_step(*next(batches))

    clocks = {ours: [0.0, 0.0], bare: [0.0, 0.0]}
    for index in range(3 + steps):
        for step, clock in clocks.items():
            wall, processor = time.perf_counter(), time.process_time()
            step()
            if ranks.device.type == "cuda":
                torch.cuda.synchronize()
            if index >= 3:  # the first steps allocate and choose kernels
                clock[0] += time.perf_counter() - wall
                clock[1] += time.process_time() - processor
    images_done = steps * cfg.SOLVER.BATCH_SIZE
    ratio_clock = 0 if ranks.device.type == "cuda" else 1
    return (
        images_done / clocks[ours][0],
        images_done / clocks[bare][0],
        clocks[ours][ratio_clock] / clocks[bare][ratio_clock],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", default="", metavar="FILE")
    parser.add_argument("--steps", type=int, default=32, help="a multiple of 2048 / batch size")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        cfg = load_config(find_config(arguments.config_file), arguments.opts)
        splits = build_splits(cfg.DATA)
        threads = torch.get_num_threads()
        print(f"{cfg.MODEL.BACKBONE}, batch {cfg.SOLVER.BATCH_SIZE}, {device}, {threads} threads")
        for amp, channels_last in VARIANTS:
            cfg.SOLVER.AMP, cfg.MODEL.CHANNELS_LAST = amp, channels_last
            ours, bare, ratio = measure(cfg, splits, arguments.steps, Ranks(device=device))
            name = f"{amp or 'float32'}{', channels_last' if channels_last else ''}"
            speeds = f"{ours:7.0f} images/s, bare loop {bare:7.0f}, time ratio {ratio:.3f}"
            print(f"{name:24} {speeds}", flush=True)
    except IIFError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

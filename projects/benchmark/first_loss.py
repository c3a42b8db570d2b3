"""The classification loss of the first batch under three starts of IIF's classifier; seeds 0 to 2.

python projects/benchmark/first_loss.py
"""

import torch
from detectron2.utils.events import EventStorage

from iif_d2.config import load_config
from iif_d2.engine import LongTailTrainer
from iif_d2.methods import IIF

CONFIG = "Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_iif.yaml"
OURS = IIF.init_classifier


def detectron2s(self, classifier) -> None:
    """N(0, .01), as it comes."""


def authors(self, classifier) -> None:
    torch.nn.init.constant_(classifier.weight, 0.001)


def first_loss(seed: int) -> float:
    cfg = load_config(CONFIG, ["SEED", str(seed), "DATALOADER.NUM_WORKERS", "0"])
    torch.manual_seed(seed)
    model = LongTailTrainer.build_model(cfg).train()
    batch = next(iter(LongTailTrainer.build_train_loader(cfg)))
    with EventStorage(), torch.no_grad():
        return float(model(batch)["loss_cls"])


if __name__ == "__main__":
    for name, start in (("ours", OURS), ("Detectron2's", detectron2s), ("the authors'", authors)):
        IIF.init_classifier = start
        print(name, *(f"{first_loss(seed):.2f}" for seed in range(3)))

#!/usr/bin/env python3
"""Train and evaluate detectors on long-tailed data: Detectron2's command line.

python train_net.py --config-file configs/Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_iif.yaml
python train_net.py --config-file ... --eval-only MODEL.WEIGHTS output/model_final.pth
"""

from argparse import Namespace

from detectron2.engine import default_argument_parser

from iif_d2.checkpoint import load_trained_model
from iif_d2.engine import LongTailTrainer, launch, setup


def main(args: Namespace) -> dict:
    """One process of the run; the results of the last evaluation."""
    cfg = setup(args)
    if args.eval_only:
        return LongTailTrainer.test(cfg, load_trained_model(cfg, resume=args.resume))
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


if __name__ == "__main__":
    launch(main, default_argument_parser().parse_args())

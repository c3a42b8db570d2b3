#!/usr/bin/env python3
"""Train and evaluate detectors on long-tailed data: Detectron2's command line.

python train_net.py --config-file configs/Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_iif.yaml
python train_net.py --config-file ... --eval-only MODEL.WEIGHTS output/.../model_final.pth
"""

from iif_d2.quiet import quieten

quieten()  # what the imports say

from detectron2.engine import default_argument_parser  # noqa: E402

from iif_d2.engine import launch, main  # noqa: E402
from iif_d2.user_modules import add_import_argument  # noqa: E402

if __name__ == "__main__":
    launch(main, add_import_argument(default_argument_parser()).parse_args())

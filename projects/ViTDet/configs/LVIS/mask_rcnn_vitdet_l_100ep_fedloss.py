"""Detectron2's LVIS recipe of ViTDet-L."""

from ..common.vit_l import make_large
from .mask_rcnn_vitdet_b_100ep_fedloss import (
    dataloader,
    lr_multiplier,
    method,
    model,
    optimizer,
    train,
)

make_large(model, optimizer, train)
train.output_dir = "output/mask_rcnn_vitdet_l_100ep_fedloss"

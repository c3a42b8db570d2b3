"""Detectron2's LVIS recipe of Cascade ViTDet-L."""

from ..common.cascade import make_cascade
from .mask_rcnn_vitdet_l_100ep_fedloss import (
    dataloader,
    lr_multiplier,
    method,
    model,
    optimizer,
    train,
)

make_cascade(model)
train.output_dir = "output/cascade_mask_rcnn_vitdet_l_100ep_fedloss"

"""Cascade ViTDet-B with IIF."""

from ..common.iif import use_iif
from .cascade_mask_rcnn_vitdet_b_100ep_fedloss import (
    dataloader,
    lr_multiplier,
    method,
    model,
    optimizer,
    train,
)

use_iif(model, method)
train.output_dir = "output/cascade_mask_rcnn_vitdet_b_100ep_iif"

"""ViTDet-B with IIF."""

from ..common.iif import use_iif
from .mask_rcnn_vitdet_b_100ep_fedloss import (
    dataloader,
    lr_multiplier,
    method,
    model,
    optimizer,
    train,
)

use_iif(model, method)
train.output_dir = "output/mask_rcnn_vitdet_b_100ep_iif"

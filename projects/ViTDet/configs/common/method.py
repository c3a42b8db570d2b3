"""The method of every box predictor, and where its counts come from."""

from detectron2.config import LazyCall as L

from iif_d2.data import deferred_frequency
from iif_d2.methods import build_method

method = L(build_method)(
    name="FedLoss",
    frequency=L(deferred_frequency)(
        num_classes="${model.roi_heads.num_classes}",
        datasets="${dataloader.train.dataset.names}",
        cache_dir="${train.output_dir}",
    ),
)

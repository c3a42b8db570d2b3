"""LVIS v1 for ViTDet: 1024 px, large scale jitter, repeat factor sampling, our evaluator."""

import detectron2.data.transforms as T
from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.data.samplers import RepeatFactorTrainingSampler

from iif_d2.data import LongTailDatasetMapper, known_frequency, repeat_factors
from iif_d2.evaluation import LongTailEvaluator

_SIZE = 1024

dataloader = model_zoo.get_config("common/data/coco.py").dataloader

train = dataloader.train
train.dataset.names = "lvis_v1_train"
train.total_batch_size = 64
train.sampler = L(RepeatFactorTrainingSampler)(
    repeat_factors=L(repeat_factors)(
        dataset_dicts="${dataloader.train.dataset}", repeat_thresh=0.001
    )
)
train.mapper.update(
    _target_=LongTailDatasetMapper,
    image_format="RGB",
    recompute_boxes=True,  # a crop changes them
    augmentations=[
        L(T.RandomFlip)(horizontal=True),
        L(T.ResizeScale)(min_scale=0.1, max_scale=2.0, target_height=_SIZE, target_width=_SIZE),
        L(T.FixedSizeCrop)(crop_size=(_SIZE, _SIZE), pad=False),
    ],
)

test = dataloader.test
test.dataset.names = "lvis_v1_val"
test.mapper._target_ = LongTailDatasetMapper
test.mapper.augmentations = [L(T.ResizeShortestEdge)(short_edge_length=_SIZE, max_size=_SIZE)]

dataloader.evaluator = L(LongTailEvaluator)(
    dataset_name="${..test.dataset.names}",
    output_dir="${train.output_dir}/inference",
    frequency=L(known_frequency)(deferred="${method.frequency}"),
)

"""Detectron2's LVIS recipe of ViTDet-B (Li et al., ECCV 2022): batch 64, AdamW, 100 epochs."""

from functools import partial

from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.modeling.backbone.vit import get_vit_lr_decay_rate
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler

from iif_d2.modeling import ClassSpecificMaskHead, LongTailOutputLayers

from ..common.lvis_v1 import dataloader
from ..common.method import method

model = model_zoo.get_config("common/models/mask_rcnn_vitdet.py").model
model.roi_heads.num_classes = 1203
model.roi_heads.box_predictor.update(
    _target_=LongTailOutputLayers,
    method="${method}",
    test_score_thresh=0.02,
    test_topk_per_image=300,
)
model.roi_heads.mask_head._target_ = ClassSpecificMaskHead  # Detectron2's, of one class a region

train = model_zoo.get_config("common/train.py").train
train.output_dir = "output/mask_rcnn_vitdet_b_100ep_fedloss"
train.init_checkpoint = (
    "detectron2://ImageNetPretrained/MAE/mae_pretrain_vit_base.pth?matching_heuristics=True"
)
train.amp.enabled = True
train.ddp.fp16_compression = True
train.max_iter = 156250  # 100 epochs of 100,000 images
train.eval_period = 30000

lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(
        values=[1.0, 0.1, 0.01], milestones=[138889, 150463], num_updates=train.max_iter
    ),
    warmup_length=250 / train.max_iter,
    warmup_factor=0.001,
)

optimizer = model_zoo.get_config("common/optim.py").AdamW
optimizer.lr = 2e-4
optimizer.params.lr_factor_func = partial(get_vit_lr_decay_rate, num_layers=12, lr_decay_rate=0.7)
optimizer.params.overrides = {"pos_embed": {"weight_decay": 0.0}}

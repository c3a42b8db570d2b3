"""One training, from a yaml and from a `.py` config, comes to the same weights."""

import json

import pytest
import torch
from detectron2.engine import default_argument_parser

from iif_d2 import register_long_tail_instances
from iif_d2.engine import LongTailTrainer, launch, load_lazy_config, main
from iif_d2.errors import IIFError

from ..conftest import TINY
from ..stress import runs

STEPS = 3
YAML = [
    "SOLVER.OPTIMIZER", "SGD", "SOLVER.CLIP_GRADIENTS.ENABLED", "False", "SOLVER.BASE_LR", "0.02",
    "SOLVER.MAX_ITER", str(STEPS), "SOLVER.CHECKPOINT_PERIOD", "2", "LOG.CLASSIFIER_PERIOD", "1",
]  # fmt: skip
LAZY = """
import detectron2.data.transforms as T
import torch
from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.solver import WarmupParamScheduler
from detectron2.solver.build import get_default_optimizer_params
from fvcore.common.param_scheduler import CosineParamScheduler

from iif_d2.data import LongTailDatasetMapper, deferred_frequency, known_frequency
from iif_d2.evaluation import LongTailEvaluator
from iif_d2.methods import build_method
from iif_d2.modeling import LongTailOutputLayers, LongTailROIHeads

counts = L(deferred_frequency)(num_classes=4, datasets="tiny_lvis")
model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
model.update(pixel_mean=[110.0] * 3, pixel_std=[60.0] * 3, input_format="RGB")
model.backbone.update(out_channels=16, norm="BN")
model.backbone.bottom_up.update(freeze_at=0)
model.backbone.bottom_up.stem.norm = "BN"
model.backbone.bottom_up.stages.update(depth=18, norm="BN")
del model.backbone.bottom_up.stages.stride_in_1x1
rpn = model.proposal_generator
rpn.update(in_features=["p2", "p3", "p4", "p5"], batch_size_per_image=64)
rpn.update(pre_nms_topk=(500, 500), post_nms_topk=(40, 20))
rpn.head.update(in_channels=16, num_anchors=1)
rpn.anchor_generator.update(
    sizes=[[16], [24], [32], [48]], aspect_ratios=[1.0], strides=[4, 8, 16, 32]
)
heads = model.roi_heads
heads.update(_target_=LongTailROIHeads, num_classes=4, batch_size_per_image=16)
heads.update(box_in_features=["p2"], mask_in_features=["p2"])
heads.box_pooler.update(scales=(1 / 4,), sampling_ratio=1)
heads.mask_pooler.update(scales=(1 / 4,), sampling_ratio=1, output_size=7)
heads.box_head.update(input_shape=ShapeSpec(channels=16, height=7, width=7), fc_dims=[16, 16])
heads.box_predictor.update(
    _target_=LongTailOutputLayers,
    input_shape=ShapeSpec(channels=16),
    test_score_thresh=1e-4,
    test_topk_per_image=100,
    cls_agnostic_bbox_reg=True,
    method=L(build_method)(name="IIF", frequency=counts),
)
heads.mask_head.update(
    input_shape=ShapeSpec(channels=16, height=7, width=7), num_classes=1, conv_dims=[8, 8]
)

dataloader = model_zoo.get_config("common/data/coco.py").dataloader
dataloader.train.update(total_batch_size=2, num_workers=0)
dataloader.train.dataset.update(names="tiny_lvis", filter_empty=False)
dataloader.train.mapper.update(
    _target_=LongTailDatasetMapper,
    image_format="RGB",
    augmentations=[
        L(T.ResizeShortestEdge)(short_edge_length=(64,), max_size=128, sample_style="choice"),
        L(T.RandomFlip)(),
    ],
)
dataloader.test.num_workers = 0
dataloader.test.dataset.names = "tiny_lvis"
dataloader.test.mapper._target_ = LongTailDatasetMapper
dataloader.test.mapper.augmentations = [L(T.ResizeShortestEdge)(short_edge_length=64, max_size=128)]
dataloader.evaluator = L(LongTailEvaluator)(
    dataset_name="tiny_lvis", frequency=L(known_frequency)(deferred=counts)
)

optimizer = L(torch.optim.SGD)(
    params=L(get_default_optimizer_params)(weight_decay_norm=0.0),
    lr=0.02,
    momentum=0.9,
    weight_decay=0.05,
    foreach=True,
)
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1, end_value=0.0),
    warmup_length=0.0,
    warmup_factor=0.01,
)
train = model_zoo.get_config("common/train.py").train
train.update(max_iter=STEPS, eval_period=0, seed=0, classifier_period=1)
train.checkpointer.period = 2
"""


def train(folder, config, *options) -> dict:
    line = ["--config-file", str(config), *options]
    launch(main, default_argument_parser().parse_args(line))
    state = torch.load(folder / "model_final.pth", weights_only=True)
    runs.forget_times(state)
    return state


# The package's own keys, in a yaml and in a `.py` config.
OWN = [
    ("MODEL_EMA.ENABLED", "model_ema.enabled", "True"),
    ("MODEL_EMA.DECAY", "model_ema.decay", "0.8"),
    ("TEST.EVAL_PERIOD", "eval_period", "2"),
    ("TEST.BEST_METRIC", "best_metric", "segm/AP"),
    ("TEST.PATIENCE", "patience", "2"),
    ("SOLVER.ACCUMULATE", "accumulate", "2"),
]


def test_yaml_and_python_choose_the_same_model(dataset_name, tmp_path):
    by_kind = {}
    options = [*TINY, *YAML, *(word for key, _, value in OWN for word in (key, value))]
    (tmp_path / "lazy.py").write_text(LAZY.replace("STEPS", str(STEPS)))
    for kind, config, given in (
        ("yaml", runs.CONFIG, [*options, "OUTPUT_DIR", str(tmp_path / "yaml")]),
        (
            "lazy",
            tmp_path / "lazy.py",
            [f"train.output_dir={tmp_path / 'lazy'}", *(f"++train.{k}={v}" for _, k, v in OWN)],
        ),
    ):
        by_kind[kind] = train(tmp_path / kind, config, *given)
        hooks = by_kind[kind]["trainer"]["hooks"]
        assert hooks["WeightAverage"]["steps"] == STEPS
        assert list(hooks["BestModel"]["values"]) == [2]  # the last comes after the checkpoint
        best = torch.load(tmp_path / kind / "model_best.pth", weights_only=True)
        by_kind[kind] = by_kind[kind], best
    for content in by_kind["yaml"]:
        assert content.pop("config")  # a .py is code, which no checkpoint carries
    assert not runs.difference(*by_kind.values())


@pytest.mark.parametrize("fixed", [False, True])
def test_yaml_and_python_train_the_same_weights(dataset_name, tmp_path, fixed):
    mini = "configs/Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_iif.yaml"
    options = [*TINY, *YAML, "OUTPUT_DIR", str(tmp_path / "yaml")]
    by_yaml = train(tmp_path / "yaml", mini, *options, "MODEL.RESNETS.FIXED_STATISTICS", str(fixed))
    (tmp_path / "lazy.py").write_text(LAZY.replace("STEPS", str(STEPS)))
    options = [f"train.output_dir={tmp_path / 'lazy'}", f"+train.fixed_statistics={fixed}"]
    by_lazy = train(tmp_path / "lazy", tmp_path / "lazy.py", *options)
    assert by_yaml.pop("config") and "config" not in by_lazy  # which is code
    assert not runs.difference(by_yaml, by_lazy)
    assert by_yaml["model"]["backbone.bottom_up.stem.conv1.norm.running_mean"].any() != fixed
    assert runs.metrics(tmp_path / "yaml") == runs.metrics(tmp_path / "lazy")
    tables = [
        json.loads((tmp_path / kind / "inference" / "results.json").read_text())
        for kind in ("yaml", "lazy")
    ]
    assert tables[0]["tiny_lvis"].keys() == {"bbox", "segm"}
    assert json.dumps(tables[0]) == json.dumps(tables[1])


def test_a_subclass_has_parts_of_its_own(tiny_cfg):
    batches = [[{"file_name": "a.png"}]]

    class Own(LongTailTrainer):
        @classmethod
        def build_optimizer(cls, cfg, model):
            return torch.optim.Adam(model.parameters(), lr=0.5)

        @classmethod
        def build_train_loader(cls, cfg):
            return batches

    trainer = Own(tiny_cfg())
    assert type(trainer.optimizer) is torch.optim.Adam
    assert list(trainer.data_loader) == batches and trainer.data_loader.images == ["a.png"]


def test_a_python_config_is_refused_before_its_first_step_too(dataset, tmp_path, capsys):
    fewer = json.loads(dataset[0].read_text())
    fewer["categories"].pop()
    (tmp_path / "fewer.json").write_text(json.dumps(fewer))
    register_long_tail_instances("lazy_fewer", str(tmp_path / "fewer.json"), str(dataset[1]))
    (tmp_path / "lazy.py").write_text(LAZY.replace("STEPS", str(STEPS)))
    cases = {
        "dataloader.test.dataset.names=lazy_fewer": "training alone has 'never'",
        "dataloader.test.dataset.names=nowhere": "'nowhere', which is not registered",
        "dataloader.evaluator.max_dets=0": "max_dets is 0",
        "train.init_checkpoint=gone.pth": "gone.pth does not exist",
    }
    for override, message in cases.items():
        cfg = load_lazy_config(str(tmp_path / "lazy.py"), [override])
        cfg.train.output_dir = str(tmp_path / "out")
        with pytest.raises(IIFError, match=message):
            LongTailTrainer(cfg).resume_or_load(resume=False)
    with pytest.raises(IIFError, match="has no test-time augmentation"):
        load_lazy_config(str(tmp_path / "lazy.py"), ["+TEST.AUG.ENABLED=True"])
    # Without an evaluator nothing is evaluated, as in Detectron2.
    cfg = load_lazy_config(str(tmp_path / "lazy.py"), [])
    del cfg.dataloader.evaluator
    cfg.train.output_dir = str(tmp_path / "out")
    trainer = LongTailTrainer(cfg)
    assert trainer._parts.evaluate_last(trainer.model) == {}

"""The three stages that Detectron2's Cascade Mask R-CNN of ViTDet has in place of one."""

from detectron2 import model_zoo

from iif_d2.modeling import LongTailCascadeROIHeads, LongTailOutputLayers


def make_cascade(model) -> None:
    """Turn the Mask R-CNN config into its cascade, in place."""
    heads = model.roi_heads
    predictor = heads.box_predictor
    for key in ("box_head", "box_predictor", "proposal_matcher"):
        heads.pop(key)
    stages = model_zoo.get_config("common/models/cascade_rcnn.py").model.roi_heads
    for key in ("box_heads", "box_predictors", "proposal_matchers"):
        heads[key] = stages[key]
    heads._target_ = LongTailCascadeROIHeads
    for head in heads.box_heads:
        head.update(conv_dims=[256] * 4, fc_dims=[1024], conv_norm="LN")
    for stage in heads.box_predictors:
        stage.update(
            _target_=LongTailOutputLayers,
            method="${method}",
            test_score_thresh=predictor.test_score_thresh,
            test_topk_per_image=predictor.test_topk_per_image,
        )

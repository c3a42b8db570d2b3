"""IIF in place of FedLoss, as this repository's LVIS configs have it."""


def use_iif(model, method) -> None:
    """Put IIF into a recipe, in place; 1e-4, since a softmax over 1,203 classes has low scores."""
    method.update(name="IIF", normalizer="images")  # the authors' released weights
    heads = model.roi_heads
    cascade = "box_predictors" in heads
    for predictor in heads.box_predictors if cascade else [heads.box_predictor]:
        predictor.test_score_thresh = 1e-4

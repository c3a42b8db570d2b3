"""The METHOD node: which method, and a sub-node of options for each, in the methods' own words."""

from __future__ import annotations

from fvcore.common.config import CfgNode as CN


def add_method_config(cfg: CN) -> None:
    """Add METHOD. A method of `iif_d2.methods` without a sub-node has its own defaults."""
    _C = cfg.METHOD = CN()
    # A key of iif_d2.methods.METHOD_REGISTRY that works without a background, or "RIDE". "Softmax"
    # is plain cross-entropy.
    _C.NAME = "Softmax"
    # Part of EPOCHS, in [0, 1], from which LDAM and RIDE reweigh classes; .8 is 160 of 200 (Cao et
    # al.).
    _C.DEFERRED_FROM = 0.8

    # IIF (Alexandridis et al.): logits times a factor that grows with rarity.
    _C.IIF = CN()
    # raw, smooth, rel, normit, gombit, base2, base10; raw is Eq. 3, smooth the paper's for
    # classification.
    _C.IIF.VARIANT = "smooth"
    # Apply the factor at test only, over a model trained with Softmax ("post-process IIF").
    _C.IIF.POST_HOC = False

    # Logit adjustment (Menon et al., ICLR 2021): + tau ln pi in the loss, or - tau ln pi at test.
    _C.LogitAdjustment = CN()
    # >= 0; 1 is the Bayes-optimal shift for balanced accuracy.
    _C.LogitAdjustment.TAU = 1.0
    # At test only, over a model trained with Softmax.
    _C.LogitAdjustment.POST_HOC = False

    # LADE (Hong et al., CVPR 2021).
    _C.LADE = CN()
    # Weight of the regulariser, >= 0: .1 CIFAR-LT, .05 ImageNet-LT, .005 Places-LT.
    _C.LADE.ALPHA = 0.1
    # Its quadratic term, >= 0: .01 CIFAR-LT, .5 ImageNet-LT, .1 Places-LT.
    _C.LADE.LAM = 0.01

    # DisAlign (Zhang et al., CVPR 2021): a second stage, to be trained with MODEL.FREEZE "model".
    _C.DisAlign = CN()
    # Power of the loss weights (1/pi)^rho, >= 0; 1.2: ImageNet-LT.
    _C.DisAlign.RHO = 1.2

    # LDAM-DRW (Cao et al., NeurIPS 2019), for the classifier "normed".
    _C.LDAM = CN()
    # Margin of the rarest class, >= 0.
    _C.LDAM.MAX_MARGIN = 0.5
    # Of the effective number of samples that the deferred weights divide by, in [0, 1).
    _C.LDAM.BETA = 0.9999

    # Focal loss over a softmax (Lin et al., ICCV 2017).
    _C.Focal = CN()
    # >= 0; 0 is Softmax.
    _C.Focal.GAMMA = 2.0

    # NorCal (Pan et al., NeurIPS 2021), at test only: exp(z_c) / n_c^gamma.
    _C.NorCal = CN()
    # >= 0, to be chosen on a validation set; 1 is logit adjustment with tau 1.
    _C.NorCal.GAMMA = 0.6

    # RIDE without its router (Wang et al., ICLR 2021), for MODEL.EXPERTS > 1 and the classifier
    # "normed".
    _C.RIDE = CN()
    # LDAM's, for each expert.
    _C.RIDE.MAX_MARGIN = 0.5
    _C.RIDE.BETA = 0.9999
    # Weight of the KL divergence between experts that is rewarded, >= 0: .45 CIFAR-LT, .2
    # ImageNet-LT.
    _C.RIDE.DIVERSITY = 0.45
    # How far temperatures of that divergence follow class shares, in [0, 1] (.05 unverified).
    _C.RIDE.TEMPERATURE_SHARE = 0.05

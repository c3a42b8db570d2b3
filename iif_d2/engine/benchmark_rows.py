"""What `python -m iif_d2 benchmark` compares: a row is a config, overrides and a number of seeds.

Every method trains by the same recipe, Mini-InstanceSegmentation's, whose base config holds the
hyper-parameters that differ from a method's published ones. A row `on` another one uses that row's
model: what calibrates at test is only evaluated, what has a second stage trains on top of it.
"""

from __future__ import annotations

from dataclasses import dataclass

TRAIN, VAL = "mini_lvis_train", "mini_lvis_val"
SOFTMAX = "mask_rcnn_R_18_FPN_softmax"
IIF = "mask_rcnn_R_18_FPN_iif"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: in the table, the csv and, with spaces as underscores, the folder of its runs.
        config: a leaf of configs/Mini-InstanceSegmentation, without its ending.
        options: KEY VALUE overrides.
        seeds: how many, from 0 up, if the command does not say.
        on: the row whose model of the same seed it stands on; empty: it trains its own.
        trains: False evaluates the model of `on` as it is.
    """

    name: str
    config: str
    options: tuple[str, ...] = ()
    seeds: int = 1
    on: str = ""
    trains: bool = True


def _method(name: str, *options: str, label: str = "", seeds: int = 1) -> Row:
    return Row(label or name, SOFTMAX, ("MODEL.LONG_TAIL.METHOD", name, *options), seeds)


def _at_test(label: str, method: str, **options: object) -> Row:
    """A test-time method over the softmax models; options are those of its config node."""
    keys = [(f"MODEL.LONG_TAIL.{method}.{key}", str(value)) for key, value in options.items()]
    flat = tuple(word for pair in keys for word in pair)
    return Row(label, SOFTMAX, ("MODEL.LONG_TAIL.METHOD", method, *flat), 3, "Softmax", False)


def _variant(variant: str, statistic: str = "image", seeds: int = 1) -> Row:
    name = f"IIF {variant}" + ("" if statistic == "image" else f" on {statistic}s")
    options = ("MODEL.LONG_TAIL.IIF.VARIANT", variant, "MODEL.LONG_TAIL.IIF.STATISTIC", statistic)
    return Row(name, IIF, options, seeds)


RFS = ("DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler")
COSINE = ("MODEL.LONG_TAIL.CLASSIFIER", "cosine")
R34 = ("MODEL.RESNETS.DEPTH", "34")
R50 = ("MODEL.RESNETS.DEPTH", "50", "MODEL.RESNETS.RES2_OUT_CHANNELS", "256")
CASCADE = "cascade_mask_rcnn_R_18_FPN_iif"

# In the order in which they run.
ROWS = (
    Row("Softmax", SOFTMAX, seeds=3),
    _variant("raw", seeds=3),
    _variant("base10", seeds=3),
    _at_test("NorCal", "NorCal"),
    _at_test("Logit adjustment, post-hoc", "LogitAdjustment", POST_HOC=True, TAU=0.1),
    _at_test("IIF raw, post-process", "IIF", POST_HOC=True),
    _at_test("IIF base10, post-process", "IIF", POST_HOC=True, VARIANT="base10"),
    Row(
        "LogN", SOFTMAX, ("MODEL.LONG_TAIL.METHOD", "LogN", "SOLVER.MAX_ITER", "250"), 3, "Softmax"
    ),
    Row("RFS", SOFTMAX, RFS, 3),
    _method("DropLoss", seeds=3),
    Row("RFS + IIF raw", IIF, RFS),
    _method("Sigmoid"),
    _method("EQL"),
    _method("EQLv2"),
    _method("Seesaw", *COSINE),
    _method("FedLoss"),
    _method("BalancedSoftmax", label="Balanced softmax"),
    _method("LogitAdjustment", label="Logit adjustment"),
    _method("LADE"),
    _method("ECM"),
    _method("GOL"),
    Row("DisAlign", "mask_rcnn_R_18_FPN_disalign", on="Softmax"),
    *(_variant(variant) for variant in ("smooth", "rel", "normit", "gombit", "base2")),
    _variant("base10", "instance"),
    Row("Cosine Softmax", SOFTMAX, COSINE),
    Row("Cosine IIF raw", IIF, COSINE),
    Row("Cascade Softmax", CASCADE, ("MODEL.LONG_TAIL.METHOD", "Softmax")),
    Row("Cascade IIF raw", CASCADE),
    Row("R34 Softmax", SOFTMAX, R34),
    Row("R34 IIF raw", IIF, R34),
    Row("R50 Softmax", SOFTMAX, R50),
    Row("R50 IIF raw", IIF, R50),
)

# The poster's figure of AP over models: label, softmax's row, IIF's row.
MODELS = (
    ("R18", "Softmax", "IIF raw"),
    ("R34", "R34 Softmax", "R34 IIF raw"),
    ("R50", "R50 Softmax", "R50 IIF raw"),
    ("Cascade R18", "Cascade Softmax", "Cascade IIF raw"),
    ("Cosine R18", "Cosine Softmax", "Cosine IIF raw"),
)

# Figure (b), classifier norms; and the rows whose false positives on background are counted.
NORMS = ("Softmax", "IIF raw")
FALSE_POSITIVES = ("Softmax", "NorCal", "Logit adjustment, post-hoc", "IIF raw")

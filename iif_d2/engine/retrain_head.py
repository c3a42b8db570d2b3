"""A new box classifier for a trained detector, trained by any method on its cached regions.

All in front of the classifier, and the box regression beside it, stay as they are. Features are
scaled to a mean norm of NORM while the classifier trains, so that a learning rate means the same
for every detector; the scale is folded into the weights at the end.
"""

from __future__ import annotations

import copy
import csv
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling.postprocessing import detector_postprocess
from torch import Tensor, nn
from tqdm import tqdm

from ..annotations.decoding import decode_json
from ..checkpoint import LongTailCheckpointer
from ..config import flat, load_config
from ..data import config_frequency
from ..errors import ConfigError, DataError, DivergedError
from ..evaluation import LongTailEvaluator
from ..files import csv_text, write_atomically
from ..files.tables import markdown_table, spread
from ..methods import build_method, default_options, find_method, method_options
from ..modeling import CosineLinear, LongTailOutputLayers
from .regions import Regions, check_made_of

NORM = 8.0  # mean length of a feature while the classifier trains
WARM_UP = 0.05  # share of the iterations over which the rate rises; then it falls along a cosine
RATES = {"sgd": 0.5, "adamw": 0.01}  # where none is asked for
OWN = "(its own)"  # the row of the classifier that the detector came with
COLUMNS = ("AP", "APr", "APc", "APf")
_RECIPE = ("method", "options", "optimizer", "lr", "iterations", "batch", "seed")


@dataclass(frozen=True)
class HeadRecipe:
    """How one classifier is trained: a line of the table.

    Attributes:
        method: a name of the registry; `OWN` trains nothing.
        options: those of its options that are not its defaults, as text.
        optimizer: "sgd" with SOLVER.MOMENTUM, or "adamw"; both with SOLVER.WEIGHT_DECAY.
        lr: the highest rate.
        iterations: steps.
        batch: regions a step.
        seed: of the start, the batches and what the method draws.
    """

    method: str
    options: str = ""
    optimizer: str = ""
    lr: float = 0.0
    iterations: int = 0
    batch: int = 0
    seed: int = 0

    def cells(self) -> list[str]:
        """In the csv, where `OWN` has no recipe."""
        if self.method == OWN:
            return [OWN] + [""] * (len(_RECIPE) - 1)
        return [f"{v:g}" if isinstance(v, float) else str(v) for v in vars(self).values()]


def method_config(config_file: str, text: str, opts: Sequence[str]) -> CfgNode:
    """The config with the method of a row, such as "IIF" or "PCB:BASE=IIF,IIF.VARIANT=base10".

    Raises:
        ConfigError: no such method or option; a second stage; one without a background.
    """
    name, _, options = text.partition(":")
    if find_method(name).second_stage:
        raise ConfigError(
            f"{name} is a second stage, which stands on a trained classifier, and here a new one "
            f"is trained; iif-d2 train runs it: MODEL.LONG_TAIL.METHOD {name} and MODEL.WEIGHTS"
        )
    words = ["MODEL.LONG_TAIL.METHOD", name]
    for pair in filter(None, options.split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"{text}: write options as METHOD:KEY=VALUE,KEY=VALUE")
        node, _, option = key.rpartition(".")
        words += [f"MODEL.LONG_TAIL.{node or name}.{option.upper()}", value]
    cfg = load_config(config_file, [*opts, *words])
    build_method(name, config_frequency(cfg), **method_options(cfg))
    return cfg


def options_text(cfg: CfgNode) -> str:
    """The options of the config's method that are not its defaults, KEY=VALUE,KEY=VALUE.

    Those of a method that it stands on are NAME.KEY=VALUE.
    """
    text = _changed(cfg.MODEL.LONG_TAIL.METHOD, method_options(cfg), "")
    return ",".join(f"{key}={value}" for key, value in text.items())


def _changed(name: str, options: dict[str, Any], prefix: str) -> dict[str, Any]:
    usual = default_options(find_method(name))
    found = {prefix + k.upper(): options[k] for k in usual if options[k] != usual[k]}
    for role, own in options.items():
        if isinstance(own, dict):  # such as base_options, of the method that base names
            below = options[role.removesuffix("_options")]
            found |= _changed(below, own, f"{below}.")
    return found


def train_head(
    plain: LongTailOutputLayers, regions: Regions, recipe: HeadRecipe, cfg: CfgNode
) -> LongTailOutputLayers:
    """A copy of the box predictor, on the CPU, with a classifier that this recipe trained anew.

    Args:
        plain: the detector's, which stays as it is.
        regions: its regions.
        recipe: how.
        cfg: its method, MODEL.LONG_TAIL's classifier, and SOLVER's momentum and weight decay.

    Raises:
        DivergedError: the loss is NaN or infinite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        head = _new_head(plain, cfg, recipe.iterations).train()
        _train(head, regions, recipe, cfg)
    return head.eval()


def _new_head(plain: LongTailOutputLayers, cfg: CfgNode, iterations: int) -> LongTailOutputLayers:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.MAX_ITER = iterations  # which a method may count on
    node = cfg.MODEL.LONG_TAIL
    method = build_method(node.METHOD, config_frequency(cfg), **method_options(cfg))
    head = copy.deepcopy(plain).cpu().requires_grad_(False)
    # as Detectron2 starts it
    head.cls_score = nn.Linear(head.cls_score.in_features, head.num_classes + 1)
    nn.init.normal_(head.cls_score.weight, std=0.01)
    nn.init.zeros_(head.cls_score.bias)
    head.set_method(method, node.CLASSIFIER, node.COSINE_SCALE)
    return head


def _train(head: LongTailOutputLayers, regions: Regions, recipe: HeadRecipe, cfg: CfgNode) -> None:
    layer, method = head.cls_score, head.method
    scale = feature_scale(regions.features)
    learning = [*layer.parameters(), *method.parameters()]
    decay = {"lr": recipe.lr, "weight_decay": cfg.SOLVER.WEIGHT_DECAY}
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD(learning, momentum=cfg.SOLVER.MOMENTUM, **decay)
    else:
        optimizer = torch.optim.AdamW(learning, **decay)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _share_of_rate(step, recipe.iterations)
    )
    # Of their own, so that every method of a seed has the same batches.
    batches = torch.Generator().manual_seed(recipe.seed)
    steps = tqdm(range(recipe.iterations), "steps", leave=False, delay=1)
    for step in steps:
        rows = torch.randint(len(regions.labels), (recipe.batch,), generator=batches)
        x = regions.features[rows] * scale
        logits = method(layer(x), x)[:, : method.num_logits]
        loss = method.loss(logits, regions.labels[rows])
        if not loss.isfinite():
            raise DivergedError(
                f"{recipe.method}: the loss is {loss.item()} in step {step}; lower --lrs, "
                f"{recipe.lr:g} here"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    if not isinstance(layer, CosineLinear):  # which does not see the length of a feature
        with torch.no_grad():
            layer.weight.mul_(scale)


def feature_scale(features: Tensor) -> float:
    """What gives features (N, D) a mean norm of NORM."""
    mean = sum(float(part.norm(dim=1).sum()) for part in features.split(1 << 16)) / len(features)
    if not 0 < mean < math.inf:
        raise DataError(f"the detector's features have a mean norm of {mean}; nothing is learnt")
    return NORM / mean


def _share_of_rate(step: int, iterations: int) -> float:
    rise = max(1, round(WARM_UP * iterations))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, iterations - rise)))


@torch.no_grad()
def score_head(
    head: LongTailOutputLayers, regions: Regions, evaluator: LongTailEvaluator
) -> dict[str, float]:
    """Box AP of the test set under this predictor, by the evaluator that `iif-d2 eval` has."""
    evaluator.reset()
    bar = tqdm(regions.images(), "scoring", len(regions.test_images), leave=False, delay=1)
    for input, features, proposals in bar:
        (found,), _ = head.inference(head(features), [proposals])
        found = detector_postprocess(found, input["height"], input["width"])
        evaluator.process([input], [{"instances": found}])
    return evaluator.evaluate()["bbox"]


def save_head(model: nn.Module, head: LongTailOutputLayers, cfg: CfgNode, output: str) -> str:
    """Write the detector with this classifier as output/model_final.pth, and its config.yaml.

    Returns:
        The checkpoint's path; `cfg` with its method is the config it is used with.
    """
    own = model.roi_heads.box_predictor
    own.cls_score, own.method = head.cls_score, head.method
    path = os.path.join(output, "model_final.pth")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = path, output
    checkpointer = LongTailCheckpointer(model, output)
    checkpointer.datasets, checkpointer.config = cfg.DATASETS.TRAIN, cfg.dump()
    checkpointer.class_frequency = config_frequency(cfg).resolve
    checkpointer.save_weights("model_final")
    write_atomically(os.path.join(output, "config.yaml"), cfg.dump())
    return path


class HeadTable:
    """The rows of an output folder: results.csv, which a later call goes on from, and results.md.

    Attributes:
        rows: metrics by the recipe's cells; none where it diverged.
    """

    def __init__(self, output: str, regions: Regions, cfg: CfgNode) -> None:
        """Read what is there.

        Raises:
            ConfigError: the folder's rows are of another detector, data or setting; names it.
            DataError: a file of the folder cannot be read.
        """
        self.path = os.path.join(output, "results.csv")
        self._markdown = os.path.join(output, "results.md")
        self.rows: dict[tuple[str, ...], dict[str, float]] = {}
        marks = os.path.join(output, "made_of.json")
        now = regions.made_of | _setting(cfg)
        if os.path.exists(marks):
            before = decode_json(marks, dict[str, str], "what a table was made of")
            check_made_of(output, before, now, "give another --output")
        else:
            write_atomically(marks, json.dumps(now, indent=1) + "\n")
        if os.path.exists(self.path):
            self._read()

    def has(self, recipe: HeadRecipe) -> bool:
        return tuple(recipe.cells()) in self.rows

    def add(self, recipe: HeadRecipe, metrics: dict[str, float]) -> None:
        """Keep a row, on the disk too."""
        self.rows[tuple(recipe.cells())] = dict(metrics)
        names = list(dict.fromkeys(name for row in self.rows.values() for name in row)) or COLUMNS
        lines: list[Iterable[str]] = [[*_RECIPE, *names]]
        for cells, row in self.rows.items():
            lines.append([*cells, *(f"{row.get(name, math.nan):.4f}" for name in names)])
        write_atomically(self.path, csv_text(lines))
        write_atomically(self._markdown, self.markdown() + "\n")

    def markdown(self) -> str:
        """A line a method, options and rate: the mean over its seeds, ± the standard deviation."""
        groups: dict[tuple[str, ...], list[dict[str, float]]] = {}
        for cells, row in self.rows.items():
            groups.setdefault(cells[:-1], []).append(row)
        lines = [["method", "optimizer", "rate", "steps", "batch", "seeds", *COLUMNS]]
        for (method, options, *rest), rows in groups.items():
            name = f"{method}:{options}" if options else method
            values = [[row.get(column, math.nan) for row in rows] for column in COLUMNS]
            means = [spread(of_column, digits=2) for of_column in values]
            lines.append([name, *rest, str(len(rows)), *means])
        return "\n".join(markdown_table(lines))

    def _read(self) -> None:
        try:
            with open(self.path, encoding="utf-8", newline="") as file:
                for line in csv.DictReader(file):
                    cells = tuple(line.pop(name) for name in _RECIPE)
                    self.rows[cells] = {name: float(value) for name, value in line.items()}
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror}") from None
        except (KeyError, ValueError, TypeError, csv.Error) as error:
            raise DataError(
                f"{self.path} is no table of re-trained heads: {type(error).__name__} {error}; "
                f"delete it, or give another --output"
            ) from None


def _setting(cfg: CfgNode) -> dict[str, str]:
    """The keys beside those of the regions on which a row depends."""
    wanted = (
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "MODEL.ROI_HEADS.NMS_THRESH_TEST",
        "TEST.DETECTIONS_PER_IMAGE", "SOLVER.MOMENTUM", "SOLVER.WEIGHT_DECAY",
        "MODEL.LONG_TAIL.CLASSIFIER", "MODEL.LONG_TAIL.COSINE_SCALE", "MODEL.LONG_TAIL.FREQUENCY",
        "MODEL.LONG_TAIL.GROUP_LIMITS",
    )  # fmt: skip
    return {key: str(value) for key, value in flat(cfg) if key in wanted}

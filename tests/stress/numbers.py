"""Extreme numbers in every method: losses and gradients stay finite; NaN is not hidden."""

from __future__ import annotations

import inspect
import json
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import torch

from iif_d2.frequency import ClassFrequency
from iif_d2.methods import METHOD_REGISTRY, build_method

from . import Outcome

STEPS = 1000
FEATURES = 16  # what the classifier sees
CLASSES = (1, 50, 20_000)
SPREADS = ("usual", "extreme")  # of the counts
OF_PAIRS = {"FCBL", "PCB"}  # they keep C x C numbers, 3 GB at 20,000 classes


def build(name: str, classes: int, spread: str):
    """A method, told the number of features if it wants to know."""
    wanted = inspect.signature(METHOD_REGISTRY.get(name)).parameters
    options = {"feature_dim": FEATURES} if "feature_dim" in wanted else {}
    if name == "IIF" and classes == 1:
        options["variant"] = "smooth"  # the others have weight 0 for an only class, and say so
    method = build_method(name, frequency_of(classes, spread), **options)
    if name == "IIF" and spread == "extreme":
        method.weight[:classes] *= 50 / method.weight.max()
    return method


def frequency_of(classes: int, spread: str) -> ClassFrequency:
    """A quarter of the classes is unseen where there is room; the others fall down to one image.

    The usual ones fall from 10^6, the extreme ones from 2^40, the most that a `ClassFrequency`
    takes.
    """
    counts = np.geomspace(1e6 if spread == "usual" else 2**40, 1, classes).astype(np.int64)
    counts[classes - classes // 4 :] = 0
    names, dimension = [str(i) for i in range(classes)], np.linspace(2, 1, classes)
    return ClassFrequency(names, counts, counts, 2 * int(counts.sum()), dimension=dimension)


def cases(columns: int, background: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Logits (8, columns) and labels, each as hard as a classifier may make them."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(background + 1, (8,), generator=generator)
    nothing = torch.full((8,), background)
    return {
        "large": (torch.randn(8, columns, generator=generator) * 1e4, label),
        "identical": (torch.zeros(8, columns), label),
        "surely wrong": (torch.eye(columns)[(label + 1) % columns] * 50, label),
        "without foreground": (torch.randn(8, columns, generator=generator), nothing),
        "without rows": (torch.zeros(0, columns), label[:0]),
    }


def check(name: str, classes: int, spread: str) -> int:
    """Loss, gradient and scores of every case; how many were tried."""
    torch.manual_seed(0)
    method = build(name, classes, spread)
    if hasattr(method, "observe"):  # LogN: a test comes after a pass over the training set
        method.observe(torch.randn(64, method.num_logits))
    tried = 0
    for case, (logits, labels) in cases(method.num_logits, classes).items():
        where = f"{name}, {classes} classes, {spread} counts, {case}"
        logits = logits.requires_grad_()
        features = torch.ones(len(logits), FEATURES)
        loss = method.loss(method(logits, features), labels, features)
        assert loss.isfinite(), f"{where}: loss {loss}"
        loss.backward()
        assert logits.grad is None or logits.grad.isfinite().all(), f"{where}: gradient"
        assert method.probabilities(logits).isfinite().all(), f"{where}: scores"
        tried += 1
    spoilt = torch.full((8, method.num_logits), torch.nan)
    labels = torch.arange(8) % classes
    loss = method.loss(spoilt, labels, torch.ones(8, FEATURES))
    assert not loss.isfinite(), f"{name}, {classes} classes: NaN logits give a loss of {loss}"
    return tried + 1


def check_long(name: str, steps: int, foreground: bool, spread: str) -> None:
    """A classifier trained on background alone, which a method with state sees as endless, or on
    every label as often."""
    torch.manual_seed(0)
    method = build(name, 50, spread)
    layer = torch.nn.Linear(FEATURES, method.num_logits)
    optimizer = torch.optim.SGD([*layer.parameters(), *method.parameters()], lr=0.1)
    for step in range(steps):
        features = torch.randn(16, FEATURES)
        labels = torch.randint(51, (16,)) if foreground else torch.full((16,), 50)
        loss = method.loss(method(layer(features), features), labels, features)
        assert loss.isfinite(), f"{name}: loss {loss} in step {step}"
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(p.isfinite().all() for p in layer.parameters()), name
    assert all(v.isfinite().all() for v in method.state_dict().values()), name


def detection_methods() -> list[str]:
    """The methods that take a background."""
    return sorted(name for name, kind in METHOD_REGISTRY if kind.supports_background)


def check_detector(classes: int) -> None:
    """A detector of so many classes trained for a few steps, evaluated, and read again."""
    from ..conftest import make_dataset
    from . import runs

    with tempfile.TemporaryDirectory() as root:
        path, images = make_dataset(Path(root) / "data")
        content = json.loads(path.read_text())
        kept = content["categories"][:classes]
        kept += [{"id": 100 + i, "name": f"class {i}"} for i in range(classes - len(kept))]
        ids = {category["id"] for category in kept}
        content["categories"] = kept
        content["annotations"] = [a for a in content["annotations"] if a["category_id"] in ids]
        for image in content["images"]:
            image["neg_category_ids"] = [i for i in image["neg_category_ids"] if i in ids]
        path.write_text(json.dumps(content))
        folder = Path(root) / "run"
        options = ("MODEL.ROI_HEADS.NUM_CLASSES", str(classes), "MODEL.LONG_TAIL.IIF.VARIANT", "smooth",
                   "SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2")  # fmt: skip
        for evaluate in (False, True):
            runs.train_to_end(folder, (path, images), *options, evaluate=evaluate)
            assert (folder / "inference" / "results.json").is_file()


def run() -> Outcome:
    names = detection_methods()
    every = product(names, CLASSES, SPREADS)
    tried = sum(check(*of) for of in every if of[0] not in OF_PAIRS or of[1] < CLASSES[-1])
    for name in names:
        check_long(name, STEPS, False, SPREADS[0])
        check_long(name, STEPS, True, SPREADS[1])
    for classes in (1, 20_000):
        check_detector(classes)
    lines = [
        f"{len(names)} methods with 1, 50 and 20,000 classes (FCBL and PCB with up to 50), counts to 10^6 and to 2^40 "
        f"(there with IIF's weights stretched to 50): {tried} batches, all finite, and with NaN logits none",
        f"{len(names)} methods for {STEPS} steps without foreground, and as many of all labels with counts to 2^40: "
        f"all finite",
        "detectors of 1 and of 20,000 classes: trained, evaluated, and evaluated from the checkpoint",
    ]
    return Outcome(tried + 2 * len(names) + 2, lines)

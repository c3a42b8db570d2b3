"""Extreme numbers in every method: losses and gradients stay finite."""

from __future__ import annotations

import inspect

import numpy as np
import torch

from iif_d2.frequency import ClassFrequency
from iif_d2.methods import METHOD_REGISTRY, build_method

STEPS = 1000
FEATURES = 16  # what the classifier sees


def build(name: str, classes: int):
    """A method, told the number of features if it wants to know."""
    wanted = inspect.signature(METHOD_REGISTRY.get(name)).parameters
    options = {"feature_dim": FEATURES} if "feature_dim" in wanted else {}
    if name == "IIF" and classes == 1:
        options["variant"] = "smooth"  # the others have weight 0 for an only class, and say so
    return build_method(name, frequency_of(classes), **options)


def frequency_of(classes: int) -> ClassFrequency:
    """Image counts from 10^6 down to 0, the rarest twice unseen where there is room."""
    counts = np.geomspace(1e6, 1, classes).astype(np.int64)
    counts[classes - classes // 4 :] = 0
    return ClassFrequency([str(i) for i in range(classes)], counts, counts, 2 * 10**6)


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


def check(name: str, classes: int) -> int:
    """Loss, gradient and scores of every case; how many were tried."""
    torch.manual_seed(0)
    method = build(name, classes)
    if hasattr(method, "observe"):  # LogN: a test comes after a pass over the training set
        method.observe(torch.randn(64, method.num_logits))
    tried = 0
    for case, (logits, labels) in cases(method.num_logits, classes).items():
        where = f"{name}, {classes} classes, {case}"
        logits = logits.requires_grad_()
        features = torch.ones(len(logits), FEATURES)
        loss = method.loss(method(logits, features), labels, features)
        assert loss.isfinite(), f"{where}: loss {loss}"
        loss.backward()
        assert logits.grad is None or logits.grad.isfinite().all(), f"{where}: gradient"
        assert method.probabilities(logits).isfinite().all(), f"{where}: scores"
        tried += 1
    return tried


def check_long(name: str, steps: int) -> None:
    """A classifier trained on background alone, which a method with state sees as endless."""
    torch.manual_seed(0)
    method = build(name, 50)
    layer = torch.nn.Linear(FEATURES, method.num_logits)
    optimizer = torch.optim.SGD([*layer.parameters(), *method.parameters()], lr=0.1)
    for step in range(steps):
        features = torch.randn(16, FEATURES)
        loss = method.loss(method(layer(features), features), torch.full((16,), 50), features)
        assert loss.isfinite(), f"{name}: loss {loss} in step {step}"
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(p.isfinite().all() for p in layer.parameters()), name
    assert all(v.isfinite().all() for v in method.state_dict().values()), name


def detection_methods() -> list[str]:
    """The methods that take a background."""
    return sorted(name for name, kind in METHOD_REGISTRY if kind.supports_background)


def run() -> list[str]:
    names = detection_methods()
    tried = sum(check(name, classes) for name in names for classes in (1, 50, 20_000))
    for name in names:
        check_long(name, STEPS)
    return [
        f"{len(names)} methods with 1, 50 and 20,000 classes: {tried} batches, all finite",
        f"{len(names)} methods for {STEPS} steps without foreground: all finite",
    ]

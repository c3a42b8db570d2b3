"""In a linear head IIF is an exact change of optimiser: softmax with other steps for each class.

With v_c = w_c W_c and beta_c = w_c b_c, IIF's loss in (W, b) is softmax's in (v, beta), and so are
the features' gradients. A step of SGD on W_c is one of w_c^2 times the rate on v_c, one of Adam w_c
times. Decay in AdamW shrinks both alike; SGD's, coupled, is lambda / w_c^2 on v_c.
"""

import pytest
import torch
from torch import nn

from iif_d2.frequency import ClassFrequency
from iif_d2.methods import build_method

CLASSES, FEATURES, STEPS = 30, 12, 150
COUNTS = [400, 350, 300] + [3 + 7 * i for i in range(CLASSES - 3)]


def batches():
    """Rows of features and labels, the background in half of them; the same for both sides."""
    draws = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES + 1, FEATURES, generator=draws, dtype=torch.float64)
    for _ in range(STEPS):
        labels = torch.randint(0, 2 * CLASSES, (32,), generator=draws).clamp(max=CLASSES)
        noise = torch.randn(32, FEATURES, generator=draws, dtype=torch.float64)
        yield centres[labels] + noise, labels


def optimiser(name: str, layer: nn.Linear, factor: torch.Tensor, decay: float):
    """One group a class, whose step is `factor` times the rate."""
    rows = [
        {"params": [weight, bias], "factor": float(f)}
        for weight, bias, f in zip(layer.rows, layer.biases, factor)
    ]
    if name == "sgd":
        groups = [
            {"params": g["params"], "lr": 0.02 * g["factor"] ** 2,
             "weight_decay": decay / g["factor"] ** 2}
            for g in rows
        ]  # fmt: skip
        return torch.optim.SGD(groups, lr=0.02, momentum=0.9)
    groups = [
        {"params": g["params"], "lr": 0.01 * g["factor"], "weight_decay": decay / g["factor"]}
        for g in rows
    ]
    return torch.optim.AdamW(groups, lr=0.01, eps=0.0)


class RowLinear(nn.Module):
    """A linear layer whose rows are parameters of their own."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__()
        self.rows = nn.ParameterList(row.clone() for row in weight)
        self.biases = nn.ParameterList(value.clone() for value in bias)

    def forward(self, x):
        return torch.stack([x @ row for row in self.rows], 1) + torch.stack([*self.biases])


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_iif_is_softmax_with_other_steps(name, decay):
    frequency = ClassFrequency([f"c{i}" for i in range(CLASSES)], COUNTS, COUNTS, 3000)
    iif, softmax = (build_method(kind, frequency).double() for kind in ("IIF", "Softmax"))
    draws = torch.Generator().manual_seed(1)
    start = torch.randn(CLASSES + 1, FEATURES, generator=draws, dtype=torch.float64) * 0.01
    bias = torch.zeros(CLASSES + 1, dtype=torch.float64)
    w = iif.weight.double()
    ours, theirs = RowLinear(start, bias), RowLinear(start * w[:, None], bias * w)
    steps = optimiser(name, ours, torch.ones_like(w), decay), optimiser(name, theirs, w, decay)
    for x, labels in batches():
        gradients = []
        for layer, method, step in zip((ours, theirs), (iif, softmax), steps):
            x = x.detach().requires_grad_()
            step.zero_grad()
            method.loss(layer(x), labels).backward()
            step.step()
            gradients.append(x.grad)
        torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)
    moved = torch.stack([*ours.rows]).detach() * w[:, None]
    torch.testing.assert_close(torch.stack([*theirs.rows]).detach(), moved, rtol=0, atol=1e-12)
    assert (moved - start * w[:, None]).abs().max() > 0.1  # they have gone somewhere

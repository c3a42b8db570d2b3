import math

import pytest
import torch

from iif_d2.errors import ConfigError
from iif_d2.methods import build_method

from .helpers import (
    assert_same,
    binary_entropy,
    each_background,
    each_case,
    make_frequency,
    random_batch,
    random_frequency,
)
from .test_drop_loss import slow_weight

PAIRS = [(1.0, 1.0), (0.3, 1.5), (2.5, 0.4), (0.01, 1.0)]


def eta(z, lam, kap):
    return (1 + lam * math.exp(-kap * z)) ** (-1 / lam)


@pytest.mark.parametrize("learnt", [True, False])
@pytest.mark.parametrize(("lam", "kap"), PAIRS)
@each_case
def test_loss_and_scores_are_the_formula(num_classes, background, lam, kap, learnt):
    frequency = random_frequency(num_classes)
    options = {"threshold": 0.02, "lam": lam, "kap": kap, "learnt": learnt}
    method = build_method("APA", frequency, background, **options).double()
    if learnt:  # parameters are float32, and these pairs are not
        with torch.no_grad():
            method.lam.fill_(lam), method.kap.fill_(kap)
    logits, labels = random_batch(method, spread=1.0)
    torch.manual_seed(3)
    draws = torch.rand(len(labels), num_classes).tolist()
    weights = slow_weight(labels.tolist(), draws, frequency, 0.02)
    scores = [[eta(z, lam, kap) for z in row] for row in logits.tolist()]
    total = 0.0
    for row, label, weight in zip(scores, labels.tolist(), weights):
        total += sum(w * binary_entropy(p, label == j) for j, (w, p) in enumerate(zip(weight, row)))
    torch.manual_seed(3)
    assert_same(method.loss(logits, labels), total / len(labels))
    assert_same(method.probabilities(logits), [[*s, 0.0] if background else s for s in scores])


@pytest.mark.parametrize("learnt", [True, False])
@each_background
def test_at_1_and_1_it_is_drop_loss(background, learnt):
    frequency = random_frequency(5)
    method = build_method("APA", frequency, background, threshold=0.02, learnt=learnt)
    other = build_method("DropLoss", frequency, background, threshold=0.02)
    logits, labels = random_batch(method, spread=12.0)  # and far out, where 1 - sigma rounds to 0
    found = []
    for one in (method, other):
        torch.manual_seed(0)
        z = logits.clone().requires_grad_()
        loss = one.loss(z, labels)
        found.append((loss, torch.autograd.grad(loss, z)[0], one.probabilities(logits)))
    for ours, theirs in zip(*found):
        assert_same(ours.detach(), theirs.detach())


def test_at_lam_0_it_is_gols_gumbel_and_small_lam_comes_near_it():
    """Within the clamp of GOL; the distance is of the order of lam."""
    frequency = random_frequency(5)
    gol = build_method("GOL", frequency, threshold=0.02)
    logits, labels = random_batch(gol, spread=1.0)
    distances = []
    for lam in (0.0, 1e-4, 1e-2):
        method = build_method("APA", frequency, threshold=0.02, lam=lam, learnt=False)
        torch.manual_seed(0)
        loss = method.loss(logits, labels)
        torch.manual_seed(0)
        distances.append(abs(loss - gol.loss(logits, labels)).item())
        scores = method.probabilities(logits) - gol.probabilities(logits)
        assert scores.abs().max() <= lam
    assert distances[0] == 0 < distances[1] < 1e-2 and distances[1] < distances[2] / 50


@each_background
def test_the_pair_learns_and_its_gradient_is_that_of_the_formula(background):
    method = build_method("APA", random_frequency(4), background, lam=0.6, kap=1.4).double()
    logits, labels = random_batch(method, spread=1.0)

    assert {name for name, p in method.named_parameters() if p.requires_grad} == {"lam", "kap"}

    def loss(lam, kap):
        method._parameters.update(lam=lam, kap=kap)
        torch.manual_seed(0)
        return method.loss(logits, labels)

    pair = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.6, 1.4)]
    assert torch.autograd.gradcheck(loss, pair)


def test_a_pair_that_is_not_learnt_has_no_parameters():
    assert not list(build_method("APA", random_frequency(3), learnt=False).parameters())


def test_every_rank_has_a_gradient_of_the_pair_also_without_rows():
    """DistributedDataParallel would wait for it."""
    method = build_method("APA", random_frequency(3))
    method.loss(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)).backward()
    assert method.lam.grad == 0 and method.kap.grad == 0


def test_what_is_learnt_stays_in_its_range():
    method = build_method("APA", make_frequency([5, 5]))
    with torch.no_grad():
        method.lam.fill_(-1.0), method.kap.fill_(-1.0)
    scores = method.probabilities(torch.tensor([[3.0, -3.0]]))
    expected = [eta(z, 1e-4, 1e-4) for z in (3.0, -3.0)]
    assert scores[0, :2].tolist() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("lam", "kap"), PAIRS)
def test_extreme_logits_stay_finite(lam, kap):
    method = build_method("APA", make_frequency([5, 5]), background=False, lam=lam, kap=kap)
    logits = torch.tensor([[-500.0, 500.0], [500.0, -500.0]], requires_grad=True)
    loss = method.loss(logits, torch.tensor([0, 0]))
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all() and logits.grad[0, 0] < 0
    assert method.lam.grad.isfinite() and method.kap.grad.isfinite()


@pytest.mark.parametrize(("lam", "kap"), [*PAIRS, (0.0, 1.0)])
def test_every_class_starts_at_the_prior(lam, kap):
    method = build_method("APA", random_frequency(3), lam=lam, kap=kap, learnt=False)
    layer = torch.nn.Linear(2, 4)
    method.init_classifier(layer)
    scores = method.probabilities(layer.bias[None, :3])
    assert scores[0, :3].tolist() == pytest.approx([0.001] * 3, rel=1e-4)


def test_what_cannot_be_is_refused():
    for options, message in (
        ({"lam": 0.0}, "lam must be 0.0001 or more"),
        ({"lam": -1.0, "learnt": False}, "lam must be 0 or more"),
        ({"kap": 0.0}, "kap must be 0.0001 or more"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_method("APA", random_frequency(3), **options)

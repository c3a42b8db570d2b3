"""One class a row against all classes, which are the oracle."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from iif_d2.ops import class_rows
from iif_d2.ops.class_rows import LazyDeltas, of_classes

SIZES = st.integers(0, 2**31), st.integers(0, 9), st.integers(1, 7), st.integers(1, 6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(*SIZES, st.integers(1, 5), st.integers(1, 4), st.booleans())
def test_products_and_gradients_are_those_of_all_classes(seed, n, C, D, P, k, with_bias):
    draws = torch.Generator().manual_seed(seed)
    tensors = [
        torch.randn(size, generator=draws, dtype=torch.float64, requires_grad=True)
        for size in [(n, D, P), (C, k, D), (C, k)][: 2 + with_bias]
    ]
    classes = torch.randint(0, C, (n,), generator=draws)

    def everything(x, weight, bias=None):
        products = torch.einsum("ckd,ndp->nckp", weight, x)
        products = products if bias is None else products + bias[..., None]
        return products[torch.arange(n), classes]

    ours = of_classes(*tensors, *[None] * (not with_bias), classes)
    theirs = everything(*tensors)
    torch.testing.assert_close(ours, theirs)
    out = torch.randn(theirs.shape, generator=draws, dtype=torch.float64)
    # Every parameter has a gradient, whole, even without rows: DDP waits for each of them.
    for a, b in zip(torch.autograd.grad(ours, tensors, out), torch.autograd.grad(theirs, tensors, out)):  # fmt: skip  # noqa: E501
        torch.testing.assert_close(a, b)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(*SIZES, st.sampled_from(["gathered", "in chunks", "in bulk"]))
def test_deltas_are_those_of_the_whole_layer(seed, R, C, D, way):
    torch.manual_seed(seed)
    layer, x = nn.Linear(D, 4 * C).double(), torch.randn(R, D, dtype=torch.float64)
    n = 2 * R
    rows, classes = torch.randint(0, max(R, 1), (n,)), torch.randint(0, C, (n,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_rows, "_DEAR", 1e9 if way == "in bulk" else 0)
        patch.setattr(class_rows, "_CHUNK", 3 if way == "in chunks" else 10**6)
        deltas = LazyDeltas(x, layer, C)
        found = deltas.of(rows, classes)
        assert ("whole" in vars(deltas)) == (way == "in bulk" and R > 0)
    whole = layer(x).view(R, C, 4)[rows, classes]
    torch.testing.assert_close(found, whole)
    found.square().sum().backward()
    ours = copy.deepcopy(layer.weight.grad)
    layer.zero_grad()
    whole.square().sum().backward()
    torch.testing.assert_close(ours, layer.weight.grad)


def test_what_reads_lazy_deltas_as_a_tensor_gets_the_whole():
    layer, x = nn.Linear(3, 8), torch.randn(5, 3)
    whole, deltas = layer(x), LazyDeltas(x, layer, 2)
    assert deltas.shape == (5, 8) and len(deltas) == 5 and deltas.dtype == torch.float32
    assert torch.equal(deltas.view(-1, 2, 4), whole.view(-1, 2, 4))
    assert torch.equal(deltas[1:3, 2], whole[1:3, 2])
    assert torch.equal(torch.cat([deltas, x.new_ones(1, 8)]), torch.cat([whole, x.new_ones(1, 8)]))
    assert torch.equal(whole * deltas, whole * whole)
    assert torch.equal(copy.deepcopy(LazyDeltas(x, layer, 2)).whole, whole)
    with pytest.raises(AttributeError):
        deltas.no_such_name  # noqa: B018


@settings(max_examples=60, deadline=None, derandomize=True)
@given(*SIZES, st.sampled_from([1e-3, 1.0, 1e5]), st.booleans())
def test_no_delta_is_above_the_bound(seed, R, C, D, scale, half):
    torch.manual_seed(seed)
    layer, x = nn.Linear(D, 4 * C), torch.randn(R, D) * scale
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        deltas = LazyDeltas(x, layer, C)
        bound = deltas.bound()
        assert R == 0 or deltas.whole.abs().max() <= bound <= 1e9


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["x", "weight", "bias"])
def test_no_bound_is_promised_for_what_is_not_finite(where, value):
    layer, x = nn.Linear(3, 8), torch.randn(5, 3)
    with torch.no_grad():
        {"x": x[2], "weight": layer.weight[1], "bias": layer.bias}[where][1] = value
    assert not math.isfinite(LazyDeltas(x, layer, 2).bound())


def test_no_bound_is_promised_where_half_precision_overflows():
    layer, x = nn.Linear(3, 8), torch.full((5, 3), 300.0)
    nn.init.constant_(layer.weight, 300.0)  # 3 * 300^2 is more than float16 has
    assert math.isfinite(LazyDeltas(x, layer, 2).bound())
    layer, x = layer.half(), x.half()
    assert LazyDeltas(x, layer, 2).bound() == math.inf

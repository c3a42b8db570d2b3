"""What a layer with one output (or four) a class says of one class a row, and of no other class.

A class-specific head predicts for every class and reads one. Here the weights of the class that is
read are gathered for each row, and multiplied with that row's features: the same sums in another
order, at a price that does not follow the number of classes.

    R: rows; C: classes; D: features of a row
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

__all__ = ["LazyDeltas", "of_classes"]

_CHUNK = 4096  # pairs whose weights are gathered at once: 64 MiB at 1,024 features
_DEAR = 64  # reading the gathered weights of one pair takes as long as computing so many in bulk


def of_classes(x: Tensor, weight: Tensor, bias: Tensor | None, classes: Tensor) -> Tensor:
    """`x`'s products with the weights of one class a row; gradients reach every row of `weight`.

    Args:
        x: (n, D, P), P pixels a row.
        weight: (C, k, D), k outputs a class.
        bias: (C, k) or None.
        classes: int64 (n,) in [0, C).

    Returns:
        (n, k, P), as `weight @ x` computes it for all classes, within rounding.

    Examples:
        >>> of_classes(torch.ones(1, 2, 1), torch.tensor([[[1., 2]], [[3., 4]]]), None,
        ...            torch.tensor([1]))
        tensor([[[7.]]])
    """
    weight = weight[classes]
    if bias is None:
        return torch.bmm(weight, x)
    return torch.baddbmm(bias[classes].unsqueeze(2), weight, x)


class LazyDeltas:
    """`layer(x)`, (R, 4C), computed when it is read, and only of the classes that are read.

    What reads it as a tensor gets the whole one: attributes, indices and torch's functions do.

    Args:
        x: (R, D).
        layer: a linear one with 4C outputs.
        num_classes: C.
    """

    def __init__(self, x: Tensor, layer: nn.Linear, num_classes: int) -> None:
        self.x, self.layer, self.num_classes = x, layer, num_classes

    @functools.cached_property
    def whole(self) -> Tensor:
        return self.layer(self.x)

    def of(self, rows: Tensor, classes: Tensor) -> Tensor:
        """(n, 4): the deltas of n pairs of a row and a class, both int64 (n,)."""
        if "whole" in vars(self) or _DEAR * len(rows) > len(self.x) * self.num_classes:
            return self.whole.unflatten(1, (self.num_classes, 4))[rows, classes]
        weight = self.layer.weight.unflatten(0, (self.num_classes, 4))
        bias = self.layer.bias
        bias = None if bias is None else bias.unflatten(0, (self.num_classes, 4))
        chunks = [
            of_classes(self.x[some][..., None], weight, bias, of_some)
            for some, of_some in zip(rows.split(_CHUNK), classes.split(_CHUNK))
        ]
        return torch.cat(chunks).squeeze(2)

    def bound(self) -> float:
        """At least the absolute value of every delta; Inf or NaN where none can be promised.

        So where a feature or a weight is not finite, or the layer's precision might overflow.
        """
        x, weight, bias = self.x, self.layer.weight, self.layer.bias
        with torch.no_grad():
            # |w . x + b| <= |w| |x| + |b|, and no row is longer than the whole matrix.
            norm = functools.partial(torch.linalg.vector_norm, dtype=torch.float32)
            longest = norm(x, dim=1).amax() if len(x) else 0.0
            bound = 2 * float(longest * norm(weight) + (0.0 if bias is None else norm(bias)))
            dtype = nn.functional.linear(x[:1], weight[:1]).dtype  # which autocast decides
        return bound if bound < torch.finfo(dtype).max else math.inf

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Any) -> Tensor:
        return self.whole[index]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.whole, name)

    @classmethod
    def __torch_function__(
        cls, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        args, kwargs = tree_map(lambda a: a.whole if isinstance(a, cls) else a, (args, kwargs))
        return function(*args, **(kwargs or {}))

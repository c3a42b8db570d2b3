"""What every method is: a module over logits that knows its loss, its adjustment and its test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from fvcore.common.registry import Registry
from torch import Tensor, nn

from ..errors import ConfigError, DataError, UnknownNameError
from ..frequency import FrequencySource
from .holder import FrequencyHolder

METHOD_REGISTRY = Registry("METHOD")
METHOD_REGISTRY.__doc__ = "Subclasses of `LongTailMethod`, by the name that METHOD takes."

NEVER = -1000.0  # a logit whose sigmoid is 0 in every precision, and which every precision has


@dataclass(frozen=True)
class Reads:
    """How a trained model's logits become scores at test.

    Methods with equal `Reads` can be exchanged over one model.

    Attributes:
        scores: what makes the scores of the logits, such as "softmax".
        factor: what the logits were multiplied by in training; "" where by nothing.
    """

    scores: str
    factor: str = ""

    def __str__(self) -> str:
        return f"{self.scores} by {self.factor}" if self.factor else self.scores

    @classmethod
    def parse(cls, text: str) -> Reads:
        """From its `str`, which is what a checkpoint keeps."""
        scores, _, factor = text.partition(" by ")
        return cls(scores, factor)


class LongTailMethod(FrequencyHolder):
    """A method over logits of shape (R, num_logits), the background's last where there is one.

    A method answers three questions: `loss`, `adjust` and `probabilities`. Whatever a subclass
    leaves out works as softmax cross-entropy. It may write

    - `derive`: the constants that follow from the class frequencies;
    - `_scale_and_shift`: its test, where that is a scale and a shift of each logit;
    - `_loss`, `_adjust`, `_probabilities`: of float32 or float64 logits. Of no rows at all, `_loss`
      is called only where it gathers state, and what it returns then is not looked at.

    Its `__init__` sets the options, then calls this one, which derives. Each option is a config
    key; its meaning, range and source stand in the `Args` of the class's docstring.

    Attributes:
        background: whether the classes include a background, labelled C.
        num_logits: columns of the logits.

    Examples:
        >>> class Halved(LongTailMethod):
        ...     "CE(softmax(z / 2), y)."
        ...
        ...     def _adjust(self, logits):
        ...         return logits / 2
        ...
        ...     def _loss(self, logits, labels, features):
        ...         return F.cross_entropy(self._adjust(logits), labels)
        >>> Halved(frequency, background=False).probabilities(torch.tensor([[0.0, 2.0, 0.0, 0.0]]))
        tensor([[0.1749, 0.4754, 0.1749, 0.1749]])
    """

    supports_background = True
    supports_no_background = True
    has_state = False  # whether it gathers from logits or labels what decides results
    # Whether it learns, or observes, over a trained model that is frozen; with state, it has
    # `reset()`, which forgets an earlier pass.
    second_stage = False
    retrains_classifier = False  # whether in a second stage the classifier learns, too
    sigmoid_scores = False  # whether `affine`'s link is the sigmoid; else the softmax
    reads = Reads("softmax")
    # Why the test is no scale and shift of each logit; None where it is one.
    not_affine: str | None = None
    given_by_model: tuple[str, ...] = ()  # options that are no config keys of their own

    def __init__(self, frequency: FrequencySource, background: bool = True) -> None:
        name = type(self).__name__
        if background and not self.supports_background:
            raise ConfigError(f"{name} is for classification; it has no background class")
        if not background and not self.supports_no_background:
            raise ConfigError(f"{name} is for detection; it needs a background class")
        self.background = background
        super().__init__(frequency)

    @property
    def num_logits(self) -> int:
        return self.num_classes + int(self.background)

    @property
    def is_adjusted_softmax(self) -> bool:
        """Whether its test is the softmax of C + 1 logits (C without background) that it adjusts.

        Another method can then stand on it. A second stage is none: it needs a trained model.
        """
        return not (self.not_affine or self.sigmoid_scores or self.second_stage)

    def loss(self, logits: Tensor, labels: Tensor, features: Tensor | None = None) -> Tensor:
        """The training loss: summed over columns, divided by the number of rows R.

        Args:
            logits: (R, num_logits).
            labels: int64 (R,) in [0, C), or [0, C] with a background.
            features: (R, D), what the classifier saw, for the methods that look at it.

        Returns:
            A scalar; 0 with a gradient where R is 0.

        Raises:
            DataError: without a background, a label C or more, where labels are on the CPU; on a
                GPU, looking would have it wait.
        """
        logits = self._prepare(logits)
        if len(logits) == 0:
            if self.has_state and self.training:  # its state is summed over ranks, this one's too
                with torch.no_grad():
                    self._loss(logits, labels, features)
            return self._loss_without_rows(logits)
        on_cpu = labels.device.type == "cpu"
        if on_cpu and not self.background and int(labels.max()) >= self.num_classes:
            raise DataError(
                f"a label is {int(labels.max())}, and {type(self).__name__} has {self.num_classes} "
                f"classes and no background; labels are 0 to {self.num_classes - 1}"
            )
        return self._loss(logits, labels, features)

    def adjust(self, logits: Tensor) -> Tensor:
        """The logits as the test uses them, shape (R, num_logits)."""
        return self._adjust(self._prepare(logits))

    def probabilities(self, logits: Tensor) -> Tensor:
        """(R, C+1) with a background, (R, C) without: the scores of the test."""
        return self._probabilities(self._prepare(logits))

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """The test as a scale and a shift of each logit, which a linear classifier can take in.

        `probabilities(z)` is softmax(scale * z + shift), or the sigmoid of it where
        `sigmoid_scores`. A background without a logit of its own has scale 0 and a shift that
        gives probability 0.

        Returns:
            Scale and shift, float64 (C+1,) with a background, (C,) without.

        Raises:
            ConfigError: the test is nothing of the kind; says why.
        """
        if self.not_affine:
            raise ConfigError(f"{type(self).__name__} cannot be folded: {self.not_affine}")
        self._settle()
        columns, own = self.num_classes + int(self.background), slice(self.num_logits)
        scale, shift = np.zeros(columns), np.full(columns, NEVER)
        of_scale, of_shift = self._scale_and_shift()
        scale[own] = 1.0 if of_scale is None else of_scale.cpu().numpy()
        shift[own] = 0.0 if of_shift is None else of_shift.cpu().numpy()
        return scale, shift

    def forward(self, logits: Tensor, features: Tensor | None = None) -> Tensor:
        """The classifier's output on its way to the three questions; most methods leave it."""
        return logits

    def init_classifier(self, classifier: nn.Linear) -> None:
        """Start the classifier as the method wants it, after its usual initialisation."""

    # -- for subclasses ------------------------------------------------------------------------

    def _scale_and_shift(self) -> tuple[Tensor | None, Tensor | None]:
        """What the test multiplies each logit by, then adds; float64 (num_logits,), None: nothing.

        The background's are 1 and 0: its logit is never adjusted.
        """
        return None, None

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        return F.cross_entropy(logits, labels)

    def _loss_without_rows(self, logits: Tensor) -> Tensor:
        """0 with a gradient, for whatever learns."""
        return logits.sum() * 0.0

    def _adjust(self, logits: Tensor) -> Tensor:
        scale, shift = self._scale_and_shift()
        if scale is not None:
            logits = logits * scale.to(logits.dtype)
        if shift is not None:
            logits = logits + shift.to(logits.dtype)
        return logits

    def _probabilities(self, logits: Tensor) -> Tensor:
        return self._adjust(logits).softmax(dim=-1)

    def _prepare(self, logits: Tensor) -> Tensor:
        if logits.dim() != 2 or logits.shape[1] != self.num_logits:
            raise ConfigError(
                f"{type(self).__name__} for {self.num_classes} classes takes logits of shape "
                f"(R, {self.num_logits}), not {tuple(logits.shape)}"
            )
        self._settle()
        return logits if logits.dtype == torch.float64 else logits.float()

    def _with_background(self, values: np.ndarray, background: float) -> np.ndarray:
        """(C,) constants of the classes, and the background's where there is one."""
        return np.append(values, background) if self.background else values


def require_at_least(method: object, lowest: float, **options: float) -> None:
    """Raise ConfigError for the first option below `lowest`, or no finite number."""
    for name, value in options.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not lowest <= value < math.inf:
            raise ConfigError(
                f"{type(method).__name__}: {name} must be {lowest} or more, not {value!r}"
            )


def require_one_of(method: object, known: Sequence[str], **options: str) -> None:
    """Raise UnknownNameError for the first option that is none of the `known` names."""
    for name, value in options.items():
        if value not in known:
            raise UnknownNameError.of(f"{type(method).__name__} {name}", value, known)

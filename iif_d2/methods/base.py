"""What every method is: a module over logits that knows its loss, its adjustment and its test."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ConfigError, DataError
from ..frequency import ClassFrequency, DeferredFrequency


class LongTailMethod(nn.Module):
    """A method over logits of shape (R, num_logits), the background's last where there is one.

    A method answers three questions: `loss`, `adjust` and `probabilities`. A subclass writes
    `_loss` and `_adjust` (and `_probabilities` where it is no softmax) for float32 or float64
    logits of at least one row, and `_derive` where its constants come from the class frequencies.

    The frequencies are part of the state: a checkpoint carries them, and the constants follow.

    Attributes:
        num_classes: C, foreground classes.
        background: whether the classes include a background, labelled C.
        num_logits: columns of the logits.
    """

    supports_background = True
    supports_no_background = True
    uses_frequency = True  # else it needs no counts, and its state dict has none
    has_state = False  # whether it gathers from logits or labels what decides results
    # Whether it learns, or observes, over a trained model that is frozen; with state, it has
    # `reset()`, which forgets an earlier pass.
    second_stage = False
    sigmoid_scores = False  # whether `affine`'s link is the sigmoid; else the softmax
    # What its test takes the logits for: over one model, methods that agree in it can be exchanged.
    reads = "softmax"
    not_affine = "what its test does to a logit is not declared to be a scale and a shift"

    def __init__(self, num_classes: int, background: bool = True) -> None:
        super().__init__()
        name = type(self).__name__
        if background and not self.supports_background:
            raise ConfigError(f"{name} is for classification; it has no background class")
        if not background and not self.supports_no_background:
            raise ConfigError(f"{name} is for detection; it needs a background class")
        self.num_classes = num_classes
        self.background = background
        self.loaded_frequency: ClassFrequency | None = None  # a checkpoint's, when one came
        self._source: ClassFrequency | DeferredFrequency | None = None
        self._current: ClassFrequency | None = None
        if self.uses_frequency:
            self.register_buffer("image_count", torch.zeros(num_classes, dtype=torch.int64))
            # -1: the source has no instance counts, or nothing is known yet
            self.register_buffer("instance_count", torch.full((num_classes,), -1))
            self.register_buffer("num_images", torch.tensor(-1))

    @property
    def num_logits(self) -> int:
        return self.num_classes + int(self.background)

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
        if self.uses_frequency:
            self.frequency  # noqa: B018  counts them
        return self._affine()

    def forward(self, logits: Tensor, features: Tensor | None = None) -> Tensor:
        """The classifier's output on its way to the three questions; most methods leave it."""
        return logits

    def init_classifier(self, classifier: nn.Linear) -> None:
        """Start the classifier as the method wants it, after its usual initialisation."""

    # -- frequencies ---------------------------------------------------------------------------

    def set_frequency(self, frequency: ClassFrequency | DeferredFrequency) -> None:
        """Take these counts, at once or when first needed.

        Raises:
            ConfigError: they are of another number of classes, or the method cannot work on them.
        """
        if len(frequency) != self.num_classes:
            raise ConfigError(
                f"the model has {self.num_classes} classes, the frequencies {len(frequency)}; "
                f"make MODEL.ROI_HEADS.NUM_CLASSES agree with MODEL.LONG_TAIL.FREQUENCY"
            )
        if not self.uses_frequency:
            return
        self._source = frequency
        if isinstance(frequency, ClassFrequency):
            self._take(frequency)

    @property
    def frequency(self) -> ClassFrequency:
        """The counts in force; counts them if that has not happened yet."""
        if self._current is None:
            self.use_source()
        return self._current

    def source_frequency(self) -> ClassFrequency:
        """The counts the method was built with, whatever a checkpoint brought.

        Raises:
            ConfigError: it was given none, or they are of another number of classes.
        """
        source = self._source
        if source is None:
            raise ConfigError(f"{type(self).__name__} has been given no class frequencies")
        frequency = source.resolve() if isinstance(source, DeferredFrequency) else source
        if len(frequency) != self.num_classes:
            raise ConfigError(
                f"MODEL.ROI_HEADS.NUM_CLASSES is {self.num_classes}, but {self.source_name()} has "
                f"{len(frequency)} classes; set NUM_CLASSES to {len(frequency)}"
            )
        return frequency

    def use_source(self) -> None:
        """Go back to the counts the method was built with."""
        self._take(self.source_frequency())

    def source_name(self) -> str:
        """What messages call the counts the method was built with."""
        return getattr(self._source, "name", "the given frequencies")

    def _take(self, frequency: ClassFrequency) -> None:
        self._current = frequency
        instances = frequency.instance_count
        self.image_count.copy_(torch.tensor(frequency.image_count))
        self.instance_count.copy_(torch.tensor(-1 if instances is None else instances))
        self.num_images.fill_(frequency.num_images)
        self._derive(frequency)

    def _constant(self, name: str, values: np.ndarray) -> None:
        """Keep constants in float64 beside the counts; they follow the device only."""
        tensor = torch.tensor(values, dtype=torch.float64, device=self.image_count.device)
        self.register_buffer(name, tensor, persistent=False)

    def _apply(self, fn, *args, **kwargs):
        exact = dict(self._buffers)
        super()._apply(fn, *args, **kwargs)
        for name, before in exact.items():  # `.half()` must not round constants and state
            after = self._buffers[name]
            if after is not None and after.dtype != before.dtype:
                self._buffers[name] = before.to(after.device)
        return self

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        counts = [prefix + name for name in ("image_count", "instance_count", "num_images")]
        if self.uses_frequency and all(key in state_dict for key in counts):
            self._take_loaded()
        # A plain Detectron2 checkpoint has nothing of a method's: no counts (the config's are
        # used), no gathered state, no second-stage parameters. Nothing is wrong with that.
        own = {prefix + name for name in (*self._buffers, *self._parameters)}
        missing_keys = args[2]
        missing_keys[:] = [key for key in missing_keys if key not in own]

    def _take_loaded(self) -> None:
        if int(self.num_images) < 0:
            return  # saved before its first use
        instances = self.instance_count.cpu().numpy()
        known = self._current if self._current is not None else self._source
        names = getattr(known, "class_names", None)
        if names is None:
            names = [f"class {index}" for index in range(self.num_classes)]
        self.loaded_frequency = ClassFrequency(
            names,
            self.image_count.cpu().numpy(),
            None if (instances < 0).any() else instances,
            int(self.num_images),
        )
        self._take(self.loaded_frequency)

    # -- for subclasses ------------------------------------------------------------------------

    def _prepare(self, logits: Tensor) -> Tensor:
        if logits.dim() != 2 or logits.shape[1] != self.num_logits:
            raise ConfigError(
                f"{type(self).__name__} for {self.num_classes} classes takes logits of shape "
                f"(R, {self.num_logits}), not {tuple(logits.shape)}"
            )
        if self.uses_frequency and self._current is None:
            self.frequency  # noqa: B018  counts them
        return logits if logits.dtype == torch.float64 else logits.float()

    def _derive(self, frequency: ClassFrequency) -> None:
        """Set the constants that follow from the counts."""

    def _affine(self) -> tuple[np.ndarray, np.ndarray]:
        raise ConfigError(f"{type(self).__name__} cannot be folded: {self.not_affine}")

    def _identity(self) -> tuple[np.ndarray, np.ndarray]:
        """The `affine` of a test that leaves the logits alone."""
        columns = self.num_classes + int(self.background)
        return np.ones(columns), np.zeros(columns)

    def _loss(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _loss_without_rows(self, logits: Tensor) -> Tensor:
        """0 with a gradient; where state is summed over ranks, this rank still takes part."""
        return logits.sum() * 0.0

    def _adjust(self, logits: Tensor) -> Tensor:
        return logits

    def _probabilities(self, logits: Tensor) -> Tensor:
        return self._adjust(logits).softmax(dim=-1)

"""The class frequencies of a method: where they come from, and what a checkpoint keeps of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ..errors import ConfigError
from ..frequency import ClassFrequency, FrequencySource
from ..groups import GROUPS

_LETTERS = tuple(GROUPS)


class FrequencyHolder(nn.Module):
    """A module that holds class counts in its state, and constants that follow from them.

    A subclass writes `derive`. Counts at hand are taken at once, deferred ones when first needed;
    those of a checkpoint take their place when it is loaded.

    Attributes:
        num_classes: C, foreground classes.
        loaded_frequency: a checkpoint's counts, when one came.
        class_names: what the classes of a checkpoint's counts are called, if that is known; set it
            before loading.
    """

    class_names: Sequence[str] | None = None

    uses_frequency = True  # else it needs no counts, and its state dict has none
    uses_dimension = False  # whether it needs the dimension of each class beside the counts

    def __init__(self, frequency: FrequencySource) -> None:
        super().__init__()
        self.num_classes = len(frequency)
        self.loaded_frequency: ClassFrequency | None = None
        self._source = frequency
        self._current: ClassFrequency | None = None
        if not self.uses_frequency:
            return
        self.register_buffer("image_count", torch.zeros(self.num_classes, dtype=torch.int64))
        # -1: the source has no instance counts, or nothing is known yet
        self.register_buffer("instance_count", torch.full((self.num_classes,), -1))
        self.register_buffer("num_images", torch.tensor(-1))
        if self.uses_dimension:
            unknown = torch.full((self.num_classes,), torch.nan, dtype=torch.float64)
            self.register_buffer("dimension", unknown)
        # 0: nothing says the group; else 1, 2, 3 for rare, common, frequent
        self.register_buffer("class_groups", torch.zeros(self.num_classes, dtype=torch.uint8))
        if isinstance(frequency, ClassFrequency):
            self._take(frequency)

    def derive(self, frequency: ClassFrequency) -> dict[str, np.ndarray]:
        """The constants that follow from the counts, by the name of the attribute.

        They are kept in float64 and follow the device; checkpoints leave them out.
        """
        return {}

    @property
    def frequency(self) -> ClassFrequency:
        """The counts in force; counts them if that has not happened yet."""
        if self._current is None:
            self.use_source()
        assert self._current is not None
        return self._current

    def source_frequency(self) -> ClassFrequency:
        """The counts the method was built with, whatever a checkpoint brought.

        Raises:
            ConfigError: they are of another number of classes.
            DataError: they hold no dimensions, and the method needs them.
        """
        frequency = self._source.measured() if self.uses_dimension else self._source.resolve()
        if len(frequency) != self.num_classes:
            raise ConfigError(
                f"MODEL.ROI_HEADS.NUM_CLASSES is {self.num_classes}, but {self._source.name} has "
                f"{len(frequency)} classes; set NUM_CLASSES to {len(frequency)}"
            )
        return frequency

    def source_name(self) -> str:
        """What messages call the counts the method was built with."""
        return self._source.name

    def use_source(self) -> None:
        """Go back to the counts the method was built with."""
        self._take(self.source_frequency())

    def use_groups(self, groups: np.ndarray) -> None:
        """Settle the groups of the counts in force; a checkpoint of version 0.1.0 has none."""
        known = self.loaded_frequency is self._current
        self._take(replace(self.frequency, class_groups=groups))
        if known:
            self.loaded_frequency = self._current

    def _settle(self) -> None:
        """Count now where that has not happened yet."""
        if self.uses_frequency and self._current is None:
            self.use_source()

    def _take(self, frequency: ClassFrequency) -> None:
        if self.uses_dimension:
            self.dimension.copy_(torch.tensor(frequency.measured().dimension))
        self._current = frequency
        instances = frequency.instance_count
        self.image_count.copy_(torch.tensor(frequency.image_count))
        self.instance_count.copy_(torch.tensor(-1 if instances is None else instances))
        self.num_images.fill_(frequency.num_images)
        groups = frequency.class_groups
        codes = 0 if groups is None else [1 + _LETTERS.index(group) for group in groups]
        self.class_groups.copy_(torch.tensor(codes))
        for name, values in self.derive(frequency).items():
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
        names = ["image_count", "instance_count", "num_images"]
        counts = [prefix + name for name in names + ["dimension"] * self.uses_dimension]
        complete = self.uses_frequency and all(key in state_dict for key in counts)
        if self.uses_dimension and not complete:  # of another method, which had no dimensions
            for key in counts:
                state_dict.pop(key, None)
        super()._load_from_state_dict(state_dict, prefix, *args)
        if complete:
            if prefix + "class_groups" not in state_dict:
                self.class_groups.zero_()
            self._take_loaded()
        # A plain Detectron2 checkpoint has nothing of a method's: no counts (the config's are
        # used), no gathered state, no second-stage parameters. Nothing is wrong with that.
        own = {prefix + name for name in (*self._buffers, *self._parameters)}
        missing_keys = args[2]
        missing_keys[:] = [key for key in missing_keys if key not in own]

    def _take_loaded(self) -> None:
        if int(self.num_images) < 0:
            if self._current is not None:
                self._take(self._current)  # the buffers again; the file has none of the counts
            return  # saved before its first use
        instances, codes = self.instance_count.cpu().numpy(), self.class_groups.tolist()
        known = self.class_names, getattr(self._current or self._source, "class_names", None)
        names = next((names for names in known if names and len(names) == self.num_classes), None)
        self.loaded_frequency = ClassFrequency(
            tuple(names or (f"class {index}" for index in range(self.num_classes))),
            self.image_count.cpu().numpy(),
            None if (instances < 0).any() else instances,
            int(self.num_images),
            [_LETTERS[code - 1] for code in codes] if min(codes) > 0 else None,
            self.dimension.cpu().numpy() if self.uses_dimension else None,
        )
        self._take(self.loaded_frequency)

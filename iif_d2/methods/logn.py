"""LogN: each class logit normalised by its own mean and spread over the training set."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError
from ..frequency import FrequencySource
from .base import METHOD_REGISTRY, LongTailMethod
from .ranks import sum_over_ranks


@METHOD_REGISTRY.register()
class LogN(LongTailMethod):
    """Test: softmax((z_c - (mu_c - beta)) / std_c), beta = min_c mu_c; the background as it is.

    mu and std (over N, not N - 1) are the moments of the foreground logits over all sampled RoIs
    of one pass of the training set; the background's are 0 and 1. The loss is softmax's. Zhao et
    al., "Logit Normalization for Long-tail Object Detection", IJCV 2024.

    Give every batch of that pass to `observe`, on all ranks equally often; moments are summed over
    ranks and stay in the state. A logit that never varied has std 1: it is only shifted.
    """

    uses_frequency = False
    has_state = True
    second_stage = True

    def __init__(self, frequency: FrequencySource, background: bool = True) -> None:
        super().__init__(frequency, background)
        zeros = torch.zeros(self.num_classes, dtype=torch.float64)
        self.register_buffer("num_observed", torch.tensor(0))
        self.register_buffer("mean", zeros)
        self.register_buffer("squared_deviation", zeros.clone())  # sum of (z - mean)^2

    @torch.no_grad()
    def observe(self, logits: Tensor) -> None:
        """Add the logits (R, num_logits) of one batch of RoIs to the moments."""
        logits = self._prepare(logits)[:, : self.num_classes].double()
        rows = logits.new_full((1,), len(logits))
        total = sum_over_ranks(torch.cat([logits.sum(dim=0), rows]))
        new = total[-1]
        mean = total[:-1] / new.clamp(min=1)
        deviation = sum_over_ranks(((logits - mean) ** 2).sum(dim=0))
        # Chan et al.: the moments of two sets merged, without a cancelling sum of squares
        both = (self.num_observed + new).clamp(min=1)
        gap = mean - self.mean
        self.squared_deviation += deviation + gap**2 * (self.num_observed * new / both)
        self.mean += gap * (new / both)
        self.num_observed += new.long()

    def reset(self) -> None:
        """Forget what was observed, for another model or another pass."""
        for buffer in (self.num_observed, self.mean, self.squared_deviation):
            buffer.zero_()

    def _scale_and_shift(self) -> tuple[Tensor, Tensor]:
        if int(self.num_observed) == 0:
            raise ConfigError(
                "LogN has observed no logits yet; before a test, call observe(logits) for every "
                "batch of one pass over the training set, or load a checkpoint that holds them"
            )
        std = (self.squared_deviation / self.num_observed).sqrt()
        std = torch.where(std > 0, std, 1.0)
        shift = (self.mean.min() - self.mean) / std
        columns = (0, int(self.background))
        return F.pad(1 / std, columns, value=1.0), F.pad(shift, columns)

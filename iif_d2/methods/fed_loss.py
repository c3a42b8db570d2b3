"""FedLoss: each batch trains the classes it holds and a few drawn negatives."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError
from ..frequency import ClassFrequency, FrequencySource
from .base import METHOD_REGISTRY, require_at_least
from .binary import BinaryMethod


@METHOD_REGISTRY.register()
class FedLoss(BinaryMethod):
    """sum_i sum_{j in S} BCE(sigma(z_ij), y_ij) / R.

    S holds the labels of the batch and negatives drawn without replacement in proportion to
    n_c^power, until it counts `fed_loss_num_classes`. As in Detectron2, whose draws this repeats
    with the same seed, the background counts as one of them where the batch has it. Classes that
    no image shows are not drawn, so S may stay smaller. Zhou et al., "Probabilistic two-stage
    detection", 2021.

    Args:
        fed_loss_num_classes: classes in the loss of a batch, a whole number >= 1; Detectron2's key
            of this name and its default.
        fed_loss_freq_weight_power: the power of their counts that draws negatives, >= 0; 0 draws
            evenly. Detectron2's key of this name and its default.
    """

    def __init__(
        self,
        frequency: FrequencySource,
        background: bool = True,
        fed_loss_num_classes: int = 50,
        fed_loss_freq_weight_power: float = 0.5,
    ) -> None:
        require_at_least(self, 1, fed_loss_num_classes=fed_loss_num_classes)
        if fed_loss_num_classes != int(fed_loss_num_classes):
            raise ConfigError(
                f"FedLoss: fed_loss_num_classes must be a whole number, not {fed_loss_num_classes}"
            )
        require_at_least(self, 0, fed_loss_freq_weight_power=fed_loss_freq_weight_power)
        self.fed_loss_num_classes = int(fed_loss_num_classes)
        self.fed_loss_freq_weight_power = fed_loss_freq_weight_power
        super().__init__(frequency, background)

    def derive(self, frequency: ClassFrequency) -> dict[str, np.ndarray]:
        count = frequency.image_count.astype(np.float64)
        weight = np.where(count > 0, count**self.fed_loss_freq_weight_power, 0.0)
        return {"sampling_weight": weight}

    def _weight(self, target: Tensor, labels: Tensor) -> Tensor:
        kept = target.new_zeros(self.num_classes + 1)
        kept[self._sample(labels)] = 1
        return kept[: self.num_classes]

    def _sample(self, labels: Tensor) -> Tensor:
        """S, of at most C+1 labels."""
        present = labels.unique()
        chance = F.pad(self.sampling_weight, (0, 1)).float()
        chance[present] = 0
        missing = self.fed_loss_num_classes - len(present)
        drawn = min(missing, int(chance.count_nonzero()))
        if drawn <= 0:
            return present
        return torch.cat([present, torch.multinomial(chance, drawn)])

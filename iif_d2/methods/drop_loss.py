"""DropLoss: EQL whose background rows, too, mostly leave the rare classes alone."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import METHOD_REGISTRY
from .eql import EQL


@METHOD_REGISTRY.register()
class DropLoss(EQL):
    """EQL with w_ij = 1 - T(f_j) (1 - y_ij) D_ij on background rows, D_ij = 1{u_ij > rho}.

    u_ij ~ U(0, 1) from torch's global generator; rho = rare foreground rows / foreground rows of
    the batch. Hsieh et al., "DropLoss for Long-Tail Instance Segmentation", AAAI 2021.

    A batch without foreground would make rho 0/0; it is 0 here, what it is in a batch whose
    foreground holds no rare class. Without a background this is EQL.
    """

    def _excluded(self, labels: Tensor) -> Tensor:
        foreground = labels < self.num_classes
        rare_rows = self.rare[labels[foreground]].sum()
        rho = rare_rows / foreground.sum().clamp(min=1)
        # float32 for any logits, so that a seed draws the same in every precision
        draws = torch.rand((len(labels), self.num_classes), device=labels.device)
        return foreground[:, None] | (draws > rho)

"""IIF and every method it is compared with, as modules over logits. Never imports Detectron2."""

from .balanced_softmax import BalancedSoftmax
from .base import DeferredFrequency, LongTailMethod
from .binary import BinaryMethod
from .disalign import DisAlign
from .drop_loss import DropLoss
from .ecm import ECM
from .eql import EQL
from .eqlv2 import EQLv2
from .fed_loss import FedLoss
from .focal import Focal
from .gol import GOL
from .iif import IIF
from .lade import LADE
from .ldam import LDAM
from .logit_adjustment import LogitAdjustment
from .logn import LogN
from .norcal import NorCal
from .registry import METHOD_REGISTRY, build_method
from .seesaw import Seesaw
from .sigmoid import Sigmoid
from .softmax import Softmax
from .weights import NORMALIZERS, STATISTICS, VARIANTS, iif_weights

__all__ = [
    "BalancedSoftmax",
    "BinaryMethod",
    "DeferredFrequency",
    "DisAlign",
    "DropLoss",
    "ECM",
    "EQL",
    "EQLv2",
    "FedLoss",
    "Focal",
    "GOL",
    "IIF",
    "LADE",
    "LDAM",
    "LogN",
    "LogitAdjustment",
    "LongTailMethod",
    "METHOD_REGISTRY",
    "NORMALIZERS",
    "NorCal",
    "STATISTICS",
    "Seesaw",
    "Sigmoid",
    "Softmax",
    "VARIANTS",
    "build_method",
    "iif_weights",
]

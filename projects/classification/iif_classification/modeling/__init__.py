"""Backbones, classifiers, experts, and the module that joins them with a method."""

from .build import build_model
from .cifar_resnet import CifarResNet
from .classifiers import CosineClassifier, NormedClassifier
from .recognizer import Recognizer
from .ride import RIDE

__all__ = [
    "CifarResNet",
    "CosineClassifier",
    "NormedClassifier",
    "RIDE",
    "Recognizer",
    "build_model",
]

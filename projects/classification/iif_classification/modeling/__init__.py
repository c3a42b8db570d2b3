"""Backbones, classifiers, experts, and the module that joins them with a method."""

from .build import build_model
from .cifar_resnet import CifarResNet
from .classifiers import CosineClassifier, NormedClassifier
from .recognizer import Recognizer

__all__ = [
    "CifarResNet",
    "CosineClassifier",
    "NormedClassifier",
    "Recognizer",
    "build_model",
]

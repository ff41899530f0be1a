"""Layers with parameters, on top of ``minisnn.ops``."""

from .layers import LIF, NEURONS, AdaptiveAvgPool2d, Attention, AvgPool2d, BatchNorm2d, Conv2d, Join, Linear, MaxPool2d, Neurons
from .listening import evaluating, listen
from .module import Module, ModuleList, Parameter, Sequential

__all__ = [
    "Module",
    "ModuleList",
    "Parameter",
    "Sequential",
    "Conv2d",
    "BatchNorm2d",
    "Neurons",
    "LIF",
    "NEURONS",
    "Attention",
    "MaxPool2d",
    "AvgPool2d",
    "AdaptiveAvgPool2d",
    "Linear",
    "Join",
    "listen",
    "evaluating",
]

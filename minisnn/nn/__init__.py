"""Layers with parameters, on top of ``minisnn.ops``."""

from .layers import (
    ALIF,
    IF,
    LIF,
    NEURONS,
    PLIF,
    AdaptiveAvgPool2d,
    Attention,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Join,
    Linear,
    MaxPool2d,
    Neurons,
    Synaptic,
)
from .listening import evaluating, listen
from .module import Layer, Module, ModuleList, Parameter, Sequential
from .stream import Stream

__all__ = [
    "Module",
    "Layer",
    "ModuleList",
    "Parameter",
    "Sequential",
    "Conv2d",
    "BatchNorm2d",
    "BatchNorm1d",
    "Flatten",
    "Neurons",
    "LIF",
    "IF",
    "PLIF",
    "ALIF",
    "Synaptic",
    "NEURONS",
    "Attention",
    "MaxPool2d",
    "AvgPool2d",
    "AdaptiveAvgPool2d",
    "Linear",
    "Dropout",
    "Join",
    "Stream",
    "listen",
    "evaluating",
]

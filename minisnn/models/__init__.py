"""The networks of the paper."""

from .presets import POSITIONS, PRUNABLE, RESIDUALS, SHORTCUTS, SYSTEMS, Config, Residual
from .resnet import ResNet21, Stage, Unit, build

__all__ = [
    "build",
    "ResNet21",
    "Stage",
    "Unit",
    "Config",
    "Residual",
    "RESIDUALS",
    "SHORTCUTS",
    "PRUNABLE",
    "POSITIONS",
    "SYSTEMS",
]

"""The networks of the paper."""

from .presets import POSITIONS, PRUNABLE, RESIDUALS, SYSTEMS, Config
from .resnet import ResNet21, Stage, Unit, build

__all__ = ["build", "ResNet21", "Stage", "Unit", "Config", "RESIDUALS", "PRUNABLE", "POSITIONS", "SYSTEMS"]

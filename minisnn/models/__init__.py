"""The networks of the paper."""

from typing import TYPE_CHECKING, Any

from .presets import POSITIONS, PRUNABLE, RESIDUALS, SHORTCUTS, SYSTEMS, Config, Residual

if TYPE_CHECKING:
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


def __getattr__(name: str) -> Any:  # the networks bring the compiler along; their names and choices do without it
    if name not in ("ResNet21", "Stage", "Unit", "build", "resnet"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    resnet = import_module(".resnet", __name__)
    return resnet if name == "resnet" else getattr(resnet, name)

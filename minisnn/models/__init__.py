"""The networks of the paper, and small ones without maps."""

from typing import TYPE_CHECKING, Any

from .presets import LAYERED, MODELS, POSITIONS, PRUNABLE, RESIDUALS, SHORTCUTS, SYSTEMS, Config, Layers, Residual

if TYPE_CHECKING:
    from ..nn import Module
    from .layered import Layered, fully_connected, recurrent
    from .resnet import ResNet21, Stage, Unit, build

__all__ = [
    "build",
    "ResNet21",
    "Stage",
    "Unit",
    "fully_connected",
    "recurrent",
    "Layered",
    "from_config",
    "Config",
    "Residual",
    "RESIDUALS",
    "SHORTCUTS",
    "PRUNABLE",
    "POSITIONS",
    "SYSTEMS",
    "LAYERED",
    "MODELS",
    "Layers",
]


MODULES = dict.fromkeys(("ResNet21", "Stage", "Unit", "build", "resnet"), "resnet")
MODULES |= dict.fromkeys(("Layered", "fully_connected", "recurrent", "layered"), "layered")


def __getattr__(name: str) -> Any:  # the networks bring the compiler along; their names and choices do without it
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f".{MODULES[name]}", __name__)
    return module if name == MODULES[name] else getattr(module, name)


def from_config(network: dict[str, Any]) -> "Module":
    """The network that a run's config.json describes under "network": ``build`` with these arguments, or, where there are the
    ``sizes`` of layers, a network without maps.

    Raises:
        TypeError, ValueError: they describe none; the message names the argument.
    """
    from . import layered, resnet

    return layered.layered(**network) if "sizes" in network else resnet.build(**network)

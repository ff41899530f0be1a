"""Networks of layers without maps, fully connected or recurrent: what a first course on spiking networks trains.

    [Linear -> neurons] ... -> [dropout] -> Linear -> mean over T

Axes: T time steps, N batch, F features, K classes. Input [T, N, F], or maps [T, N, C, H, W], which are flattened.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import nn
from ..engine import Tensor, generator
from .presets import Row, table

__all__ = ["Layered", "LayeredConfig", "fully_connected", "layered", "recurrent"]


@dataclasses.dataclass(frozen=True)
class LayeredConfig:
    """One network without maps. Raises ValueError, naming the field, if a value is out of range."""

    sizes: tuple[int, ...]  # features of the input, neurons of each layer, classes
    recurrent: bool  # whether the layers of neurons are recurrent
    neuron: str = "lif"  # one of nn.NEURONS
    dtype: str = "float32"
    gain: float = 2.0  # factor of the initial weights in front of neurons
    dropout: float = 0.0  # share of the features that training silences before the last layer
    timesteps: int | None = None  # T of the run that trains it; it takes any other as well

    def __post_init__(self) -> None:
        sizes = tuple(self.sizes)
        whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n > 0 for n in sizes)
        if len(sizes) < 3 or not whole:
            raise ValueError(f"sizes is {sizes}; give whole numbers: the input, one or more layers of neurons, the classes")
        object.__setattr__(self, "sizes", tuple(map(int, sizes)))
        if not isinstance(self.recurrent, bool):
            raise ValueError(f"recurrent is {self.recurrent!r}; give True or False")
        if self.neuron not in nn.NEURONS:
            raise ValueError(f"neuron is {self.neuron!r}; give one of {', '.join(nn.NEURONS)}")

    @property
    def width(self) -> int:
        """Neurons of the first layer."""
        return self.sizes[1]


class Layered(nn.Module):
    """See ``fully_connected`` and ``recurrent``. ``net(x)``: [T, N, ...] -> class scores [N, K], the mean over T;
    ``print(net)`` shows it.
    """

    def __init__(self, config: LayeredConfig, rng: np.random.Generator | None = None, **constants: Any) -> None:
        self.config, self.constants = config, constants
        c = config
        kind = nn.NEURONS[c.neuron]
        make: dict[str, Any] = dict(rng=rng, dtype=c.dtype)
        self.flatten = nn.Flatten()
        self.layers = nn.Sequential()
        for k, (before, size) in enumerate(itertools.pairwise(c.sizes[:-1])):
            neurons = kind(**constants, **dict(dtype=c.dtype) if kind.learns else {})
            if c.recurrent:
                neurons = nn.Recurrent(nn.Linear(size, size, **make), neurons)
            linear = nn.Linear(before, size, **make)
            linear.weight.data *= linear.weight.dtype.type(c.gain)
            setattr(self.layers, str(2 * k), linear)
            setattr(self.layers, str(2 * k + 1), neurons)
        self.dropout = nn.Dropout(c.dropout) if c.dropout else None
        self.head = nn.Linear(c.sizes[-2], c.sizes[-1], **make)
        self.name_parts()

    def plan(self) -> list[Row]:
        """Its layers in order, with what leaves each."""
        rows = []
        for name, part in [*((f"layers.{k}", part) for k, part in enumerate(self.layers)), ("head", self.head)]:
            if isinstance(part, nn.Linear):
                F, before = part.weight.shape
                what = f"{before} to {F}" + (", mean over T" if part is self.head else "")
            elif isinstance(part, nn.Recurrent):
                what = f"{type(part.neurons).__name__}, recurrent, {F} to {F}"
            else:
                what = type(part).__name__
            rows.append(Row(name, what, (F,), sum(p.size for p in part.parameters())))
        return rows

    def __repr__(self) -> str:
        """The plan as a table."""
        c = self.config
        kind, over = "recurrent" if c.recurrent else "fully connected", f", T {c.timesteps}" if c.timesteps else ""
        sizes = "-".join(map(str, c.sizes))
        return table(f"{kind} network {sizes}{over}, {sum(p.size for p in self.parameters()):,} parameters", self.plan())

    def misfit(self, size: Sequence[int]) -> str:
        """Why it cannot read samples [F] or [C, H, W] of this size: "reads ... " what; "" if it can."""
        features = self.config.sizes[0]
        return "" if math.prod(size) == features else f"reads {features} features"

    def forward(self, x: Any) -> Tensor:
        return self.steps(x).mean(0)

    def steps(self, x: Any) -> Tensor:
        """The scores of each time step, [T, N, K], whose mean ``net(x)`` is."""
        if not isinstance(x, Tensor):
            x = Tensor(np.asarray(x), dtype=self.head.weight.dtype)
        x = self.layers(self.flatten(x))
        return self.head(x if self.dropout is None else self.dropout(x))


def layered(*, preset: str = "", seed: int | None = None, **config: Any) -> Layered:
    """The network that the fields of LayeredConfig describe, as config.json holds them; ``preset``: the data set, which the
    sizes follow from and which is not needed here.
    """
    return Layered(LayeredConfig(**config), generator() if seed is None else np.random.default_rng(seed))


def fully_connected(
    sizes: Sequence[int] = (64, 128, 128, 10),
    neuron: str = "lif",
    dtype: str = "float32",
    seed: int | None = None,
    gain: float = 2.0,
    dropout: float = 0.0,
    **constants: Any,
) -> Layered:
    """A fully connected network, by default for 8x8 pixels: 64-128-128-10.

        net = models.fully_connected(seed=0)
        samples = data.Arrays(pixels, labels, timesteps=8)

    Args:
        sizes: features of the input, neurons of each layer, classes.
        neuron: kind of its neurons, one of ``nn.NEURONS``.
        dtype: "float32" or "float64".
        seed: of the initial weights; by default they come from the generator that ``manual_seed`` restarts.
        gain: factor of the initial weights in front of neurons, which with those of PyTorch hardly fire.
        dropout: share of the features that training silences before the last layer (``nn.Dropout``).
        **constants: of the neurons, such as ``decay_input=False``.

    Returns:
        Layered, in training mode.

    Raises:
        ValueError, TypeError: sizes, a neuron or a constant out of range.
    """
    config = LayeredConfig(tuple(sizes), False, neuron, dtype, gain, dropout)
    return Layered(config, generator() if seed is None else np.random.default_rng(seed), **constants)


def recurrent(
    sizes: Sequence[int] = (8, 128, 10),
    neuron: str = "plif",
    dtype: str = "float32",
    seed: int | None = None,
    gain: float = 2.0,
    dropout: float = 0.0,
    **constants: Any,
) -> Layered:
    """A network whose layers of neurons are recurrent (``nn.Recurrent``), by default with learned time constants: for digits
    that are read row by row, 8 features at 8 steps; with sizes=(700, 256, 20), for the spoken digits of ``data.load("shd")``.

    Arguments, result and errors as for ``fully_connected``.
    """
    config = LayeredConfig(tuple(sizes), True, neuron, dtype, gain, dropout)
    return Layered(config, generator() if seed is None else np.random.default_rng(seed), **constants)

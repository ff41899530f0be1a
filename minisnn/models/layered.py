"""Networks of layers without maps, fully connected or recurrent: what a first course on spiking networks trains.

    [Linear -> neurons] ... -> Linear -> mean over T

Axes: T time steps, N batch, F features, K classes. Input [T, N, F], or maps [T, N, C, H, W], which are flattened.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import nn
from ..engine import Tensor, generator

__all__ = ["Layered", "fully_connected", "recurrent"]


class Layered(nn.Module):
    """See ``fully_connected`` and ``recurrent``. ``net(x)``: [T, N, ...] -> class scores [N, K], the mean over T."""

    def __init__(
        self, sizes: Sequence[int], again: bool, neuron: str, dtype: str, seed: int | None, gain: float, constants: Any
    ) -> None:
        whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n > 0 for n in sizes)
        if len(sizes) < 3 or not whole:
            raise ValueError(
                f"sizes is {tuple(sizes)}; give whole numbers: the input, one or more layers of neurons, the classes"
            )
        if neuron not in nn.NEURONS:
            raise ValueError(f"neuron is {neuron!r}; give one of {', '.join(nn.NEURONS)}")
        kind = nn.NEURONS[neuron]
        make: dict[str, Any] = dict(rng=generator() if seed is None else np.random.default_rng(seed), dtype=dtype)
        self.flatten = nn.Flatten()
        self.layers = nn.Sequential()
        for k, (before, size) in enumerate(itertools.pairwise(sizes[:-1])):
            neurons = kind(**constants, **dict(dtype=dtype) if kind.learns else {})
            if again:
                neurons = nn.Recurrent(nn.Linear(size, size, **make), neurons)
            linear = nn.Linear(before, size, **make)
            linear.weight.data *= linear.weight.dtype.type(gain)
            setattr(self.layers, str(2 * k), linear)
            setattr(self.layers, str(2 * k + 1), neurons)
        self.head = nn.Linear(sizes[-2], sizes[-1], **make)
        self.name_parts()

    def forward(self, x: Any) -> Tensor:
        return self.steps(x).mean(0)

    def steps(self, x: Any) -> Tensor:
        """The scores of each time step, [T, N, K], whose mean ``net(x)`` is."""
        if not isinstance(x, Tensor):
            x = Tensor(np.asarray(x), dtype=self.head.weight.dtype)
        return self.head(self.layers(self.flatten(x)))


def fully_connected(
    sizes: Sequence[int] = (64, 128, 128, 10),
    neuron: str = "lif",
    dtype: str = "float32",
    seed: int | None = None,
    gain: float = 2.0,
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
        **constants: of the neurons, such as ``decay_input=False``.

    Returns:
        Layered, in training mode.

    Raises:
        ValueError, TypeError: sizes, a neuron or a constant out of range.
    """
    return Layered(sizes, False, neuron, dtype, seed, gain, constants)


def recurrent(
    sizes: Sequence[int] = (8, 128, 10),
    neuron: str = "plif",
    dtype: str = "float32",
    seed: int | None = None,
    gain: float = 2.0,
    **constants: Any,
) -> Layered:
    """A network whose layers of neurons are recurrent (``nn.Recurrent``), by default with learned time constants: for digits
    that are read row by row, 8 features at 8 steps; with sizes=(700, 256, 20), for the spoken digits of ``data.load("shd")``.

    Arguments, result and errors as for ``fully_connected``.
    """
    return Layered(sizes, True, neuron, dtype, seed, gain, constants)

"""Any-time inference: what a network says after each time step, and how long one step takes.

Axes: T time steps, N batch, M samples, K classes.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from . import ledger
from .data import Loader
from .data.base import Samples
from .ledger import E_AC, E_MAC
from .nn import Module, Stream

__all__ = ["anytime", "latencies"]


def anytime(net: Module, samples: Samples, batch_size: int = 64, seed: int = 0, limit: int | None = None) -> dict[str, Any]:
    """Accuracy, spikes and energy after 1, 2, ..., T time steps: what a reader gets who stops early.

    Args:
        net: a network that ``nn.Stream`` takes.
        samples: data.Samples.
        batch_size: samples at once; it changes memory, not results.
        seed, limit: take only that many samples, drawn by the seed.

    Returns:
        dict: accuracy, [T], of the mean of the scores so far, 0 to 1; spikes, ac, mac and energy_mj, [T], per sample and up to
        that step, as ``energy.measure`` counts them; samples, how many.

    Raises:
        ValueError: the network cannot stream; the layer is named.
    """
    stream = Stream(net)
    right, counts, seen = np.zeros(samples.timesteps, int), np.zeros((samples.timesteps, 3)), 0
    for x, labels in Loader(samples, batch_size, seed=seed, limit=limit):
        stream.reset()
        seen += len(labels)
        for t in range(len(x)):
            with ledger.ledger() as entries:
                scores = stream(x[t : t + 1])
            right[t] += (scores.argmax(1) == labels).sum()
            counts[t] += [sum(getattr(entry, name) for entry in entries) for name in ("spikes", "ac", "mac")]
    spikes, ac, mac = (counts.cumsum(0) / seen).T
    energy = (ac * E_AC + mac * E_MAC) * 1e-9
    return {"accuracy": right / seen, "spikes": spikes, "ac": ac, "mac": mac, "energy_mj": energy, "samples": seen}


def latencies(net: Module, samples: Samples, frames: int = 50, seed: int = 0) -> np.ndarray:
    """Seconds from a frame to the scores that include it, one sample at a time, as a camera would call the network.

    Args:
        net: a network that ``nn.Stream`` takes.
        samples: whose frames are shown, in an order drawn by the seed.
        frames: how many are timed; one sample before them is not, so that everything is compiled and in the cache.
        seed: of the order.

    Returns:
        [frames] seconds.
    """
    stream, seconds = Stream(net), list[float]()
    order = np.random.default_rng(seed).permutation(len(samples))
    for k in range(frames // samples.timesteps + 2):
        x = samples.batch(order[[k % len(order)]])
        stream.reset()
        for t in range(len(x)):
            start = time.perf_counter()
            stream(x[t : t + 1])
            seconds.append(time.perf_counter() - start)
    return np.array(seconds[samples.timesteps :][:frames])

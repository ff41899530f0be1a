"""The parametric leaky integrate-and-fire neuron: its time constant is learned.

    1 / tau = sigmoid(w)
    U[t] = H[t-1] + (X[t] - (H[t-1] - U_reset)) sigmoid(w)    charge
    S[t] = Theta(U[t] - U_threshold)                          fire
    H[t] = U[t] (1 - S[t]) + U_reset S[t]                     reset

(Fang et al. 2021, "Incorporating learnable membrane time constant to enhance learning of spiking neural networks".) The sigmoid
keeps tau above 1 for every w. Forward this is lif.py with another leak; backward the leak has a gradient too,

    dL/dleak = sum over t of dL/dU[t] (X[t] - (H[t-1] - U_reset)),      dL/dw = dL/dleak sigmoid(w) (1 - sigmoid(w))

which the loops of lif.py add up for each neuron, from the last step to the first, where they are asked for it (``unleak``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine import Tensor
from ..surrogate import ATan, Surrogate
from .lif import LIF, ChannelLIF, by_channel, carry, channel_count, check_neurons, constant, neuron

__all__ = ["plif", "PLIF", "sigmoid"]


def sigmoid(w: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-w)) in float64, without overflow."""
    e = np.exp(-np.abs(np.asarray(w, np.float64)))
    return np.where(np.asarray(w) < 0, e, 1.0) / (1.0 + e)


class PLIF(LIF):
    """See ``plif``: one w for all neurons."""

    op = "plif"
    learned = 1

    def forward(self, x, *others, n, **options):
        w = others[0]
        self.leak = sigmoid(w)
        leak = x.dtype.type(self.leak)
        return super().forward(x, *others, n=n._replace(leak=leak, gain=leak if n.decays else n.one), **options)

    def rewind(self, dx, dstate, ds):
        dleak = np.zeros(dx.shape[1], dx.dtype)
        self.leaking(dx, dstate, ds, dleak)
        return (np.asarray(dleak.sum(dtype=np.float64) * self.leak * (1 - self.leak), dx.dtype),)


class ChannelPLIF(ChannelLIF):
    """See ``plif``: a w or a threshold for each channel."""

    op = "plif"
    learned = 1

    def forward(self, x, *others, **options):
        w, v = others[0], options["v"]
        self.leak, self.one = sigmoid(w), w.ndim == 0
        leak = np.broadcast_to(self.leak, v.shape).astype(x.dtype)
        return super().forward(x, *others, leak=leak, **options)

    def rewind(self, dx, dstate, ds):
        dleak = np.zeros(dx.shape[1], dx.dtype)
        self.leaking(dx, dstate, ds, dleak)
        total = dleak.sum(dtype=np.float64) if self.one else dleak.reshape(-1, self.leak.size).sum(0, dtype=np.float64)
        return (np.asarray(total * self.leak * (1 - self.leak), dx.dtype),)


def plif(
    x: Tensor,
    w: Tensor,
    v_threshold: float | np.ndarray = 1.0,
    v_reset: float | None = 0.0,
    surrogate: Surrogate = ATan(),
    detach_reset: bool = True,
    decay_input: bool = True,
    smooth: bool = False,
    h0: Tensor | np.ndarray | None = None,
    return_state: bool = False,
    recurrent: Any = None,
) -> Any:
    """Leaky integrate-and-fire neurons with a learned time constant 1 / sigmoid(w); the equations are in the module docstring.

    Args:
        x: input current, [T, ...], in units of the threshold.
        w: of shape [], one for all neurons, or [C], one for each channel (axes as for ``lif``).
        v_threshold, v_reset, surrogate, detach_reset, decay_input, smooth, h0, return_state, recurrent: as for
            ``lif``.

    Returns:
        Spikes, [T, ...]; with ``return_state`` (spikes, potential [...]).

    Raises:
        ValueError: w is of another shape, or as ``lif``.
        TypeError, FloatingPointError: as ``lif``.
    """
    check_neurons(x, surrogate, "plif")
    C = channel_count(x.shape)
    if not isinstance(w, Tensor):
        raise TypeError(f"plif: w is a {type(w).__name__}; give a Tensor")
    if w.shape not in ((), (C,)):
        raise ValueError(f"plif: w has shape {w.shape}; give () or, one for each channel of currents {x.shape}, ({C},)")
    v_threshold = constant("v_threshold", v_threshold)
    options: dict[str, Any] = dict(
        h0=h0, return_state=return_state, recurrent=recurrent, surrogate=surrogate, smooth=bool(smooth)
    )
    shared: dict[str, Any] = dict(v_reset=v_reset, detach_reset=detach_reset, decay_input=decay_input)
    if isinstance(v_threshold, float) and w.ndim == 0:
        return carry(PLIF, x, (w,), n=neuron(x.dtype, 2.0, v_threshold, **shared), **options)
    n, _, v = by_channel(x.shape, x.dtype, 2.0, v_threshold, **shared)
    return carry(ChannelPLIF, x, (w,), n=n, v=v, **options)

"""The leaky integrate-and-fire neuron after a synapse whose current decays (current-based, "CUBA").

    I[t] = (1 - 1 / tau_syn) I[t-1] + X[t]                    synapse
    U[t] = H[t-1] + (I[t] - (H[t-1] - U_reset)) / tau         charge
    S[t] = Theta(U[t] - U_threshold)                          fire
    H[t] = U[t] (1 - S[t]) + U_reset S[t]                     reset

(Vogels and Abbott 2005 for the model; CubaLIF of the Neuromorphic Intermediate Representation, Pedersen et al. 2024, in steps
of one.) Backward, the current is a second memory: dI[t] = gain dU[t] + (1 - 1 / tau_syn) dI[t+1], and dX[t] = dI[t].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine import Tensor
from ..jit import kernel, parallel_kernel, prange
from ..surrogate import ATan, Surrogate, derivative_kernel
from .lif import (
    BLOCK,
    Spiking,
    carry,
    charge,
    check_neurons,
    constant,
    fire_all,
    flushed,
    neuron,
    smooth_reset,
    uncharge,
    unfire,
)

__all__ = ["synaptic", "Synaptic"]


@kernel
def flow(c, x, keep, n):
    return flushed(keep * c + x, n)


@parallel_kernel
def synaptic_forward(s, h, c, x, n, keep, smooth, kind, alpha):
    # s, x: [T, M]; h, c: [M], potentials and currents before the first step, become those after the last; n: Neuron
    T, M = x.shape
    real = x.dtype.type
    for block in prange((M + BLOCK - 1) // BLOCK):
        lo, hi = block * BLOCK, min(M, block * BLOCK + BLOCK)
        for t in range(T):
            for i in range(lo, hi):
                c[i] = flow(c[i], x[t, i], keep, n)
                h[i] = charge(h[i], c[i], n)
            fire_all(s[t, lo:hi], h[lo:hi], n, smooth, kind, alpha)
            for i in range(lo, hi):
                h[i] = smooth_reset(h[i], real(s[t, i]), n)


@parallel_kernel
def synaptic_backward(dx, dh, dc, ds, x, h0, c0, n, keep, smooth, kind, alpha):
    # dx, ds, x: [T, M]; h0, c0: [M], before the first step; dh, dc: [M], the gradients of those after the last, become theirs
    T, M = x.shape
    for block in prange((M + BLOCK - 1) // BLOCK):
        lo = block * BLOCK
        size = min(BLOCK, M - lo)
        u = np.empty((T, size), x.dtype)
        s, sg = np.empty((2, size), x.dtype)
        h, c = h0[lo : lo + size].copy(), c0[lo : lo + size].copy()
        for t in range(T):
            for i in range(size):
                c[i] = flow(c[i], x[t, lo + i], keep, n)
                u[t, i] = charge(h[i], c[i], n)
            fire_all(s, u[t], n, smooth, kind, alpha)
            for i in range(size):
                h[i] = smooth_reset(u[t, i], s[i], n)
        for t in range(T - 1, -1, -1):
            fire_all(s, u[t], n, smooth, kind, alpha)
            derivative_kernel(kind, alpha, u[t], n.v_threshold, sg)
            for i in range(size):
                du = unfire(ds[t, lo + i], dh[lo + i], u[t, i], s[i], sg[i], n)
                dh[lo + i], by_charge = uncharge(du, n)
                # c = keep * c + x, and the charge read c
                dx[t, lo + i] = by_charge + dc[lo + i]
                dc[lo + i] = flushed(keep * dx[t, lo + i], n)


class Synaptic(Spiking):
    """See ``synaptic``."""

    op = "synaptic"
    variables = 2

    @property
    def arguments(self) -> tuple[Any, ...]:
        n, smooth, kind, alpha = super().arguments
        return n, self.constants["keep"], smooth, kind, alpha

    def run(self, s, state, x, *learned):
        synaptic_forward(s, *state, x, *self.arguments)

    def rewind(self, dx, dstate, ds):
        synaptic_backward(dx, *dstate, ds, self.x, *self.state, *self.arguments)
        return ()


def synaptic(
    x: Tensor,
    tau_syn: float = 5.0,
    tau: float = 2.0,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
    surrogate: Surrogate = ATan(),
    detach_reset: bool = True,
    decay_input: bool = True,
    smooth: bool = False,
    h0: Tensor | np.ndarray | None = None,
    return_state: bool = False,
    recurrent: Any = None,
) -> Any:
    """Current-based leaky integrate-and-fire neurons; the equations are in the module docstring.

    Args:
        x: what arrives at the synapses, [T, ...], in units of the threshold.
        tau_syn: time constant of the synaptic current in time steps, at least 1, where it lasts for one step.
        tau, v_threshold, v_reset, surrogate, detach_reset, decay_input, smooth, return_state, recurrent: as for
            ``lif``.
        h0: potential and current before the first step, [2, ...]; by default those at rest, v_reset and 0.

    Returns:
        Spikes, [T, ...]; with ``return_state`` (spikes, [2, ...]: potential, current).

    Raises:
        ValueError: no time axis, a constant out of range, or h0 of another shape.
        TypeError: ``surrogate`` is not one of ``minisnn.surrogate``, or a constant is no number.
        FloatingPointError: a current is NaN, infinite or too large for a potential.
    """
    check_neurons(x, surrogate, "synaptic")
    tau, v_threshold, tau_syn = (
        constant(name, value, single=True) for name, value in dict(tau=tau, v_threshold=v_threshold, tau_syn=tau_syn).items()
    )
    if not (np.isfinite(tau_syn) and tau_syn >= 1):
        raise ValueError(f"synaptic: tau_syn is {tau_syn!r} time steps; give a number of at least 1")
    n = neuron(x.dtype, tau, v_threshold, v_reset, detach_reset, decay_input)
    keep = np.dtype(x.dtype).type(1 - 1 / tau_syn)
    return carry(
        Synaptic,
        x,
        h0=h0,
        return_state=return_state,
        recurrent=recurrent,
        n=n,
        keep=keep,
        surrogate=surrogate,
        smooth=bool(smooth),
    )

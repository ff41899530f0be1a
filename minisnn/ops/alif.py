"""The leaky integrate-and-fire neuron with an adaptive threshold: whoever fires often becomes harder to excite.

    U[t] = H[t-1] + (X[t] - (H[t-1] - U_reset)) / tau         charge
    A[t] = U_threshold + beta a[t]                            threshold, with a[0] = 0
    S[t] = Theta(U[t] - A[t])                                 fire
    H[t] = U[t] (1 - S[t]) + U_reset S[t]                     hard reset, or U[t] - A[t] S[t], soft reset
    a[t+1] = rho a[t] + S[t],  rho = exp(-1 / tau_adapt)      adaptation

(Bellec et al. 2018, "Long short-term memory and learning-to-learn in networks of spiking neurons", in which the reset is
soft.) ``detach_reset`` cuts the spike's effect on the potential; that on the threshold, a memory of tau_adapt steps, is what
these neurons are for, and is never cut.
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
    fire_each,
    flushed,
    neuron,
    of_channel,
    smooth_reset,
    uncharge,
    unfire,
)

__all__ = ["alif", "ALIF"]


@kernel
def adapt(a, s, rho, n):
    return flushed(rho * a + s, n)


@parallel_kernel
def alif_forward(s, h, a, x, n, beta, rho, smooth, kind, alpha):
    # s, x: [T, M]; h, a: [M], before the first step, become those after the last; n: Neuron
    T, M = x.shape
    real = x.dtype.type
    for block in prange((M + BLOCK - 1) // BLOCK):
        lo, hi = block * BLOCK, min(M, block * BLOCK + BLOCK)
        v, d = np.empty((2, hi - lo), x.dtype)
        for t in range(T):
            for i in range(lo, hi):
                h[i] = charge(h[i], x[t, i], n)
                v[i - lo] = n.v_threshold + beta * a[i]
            fire_each(s[t, lo:hi], d, h[lo:hi], v, n, smooth, kind, alpha)
            for i in range(lo, hi):
                h[i] = smooth_reset(h[i], real(s[t, i]), of_channel(n, n.leak, v[i - lo]))
                a[i] = adapt(a[i], real(s[t, i]), rho, n)


@parallel_kernel
def alif_backward(dx, dh, da, ds, x, h0, a0, n, beta, rho, smooth, kind, alpha):
    # dx, ds, x: [T, M]; h0, a0: [M], before the first step; dh, da: [M], the gradients of those after the last, become theirs
    T, M = x.shape
    for block in prange((M + BLOCK - 1) // BLOCK):
        lo = block * BLOCK
        size = min(BLOCK, M - lo)
        u, v = np.empty((T, size), x.dtype), np.empty((T, size), x.dtype)
        d, s, sg = np.empty((3, size), x.dtype)
        h, a = h0[lo : lo + size].copy(), a0[lo : lo + size].copy()
        for t in range(T):
            for i in range(size):
                u[t, i] = charge(h[i], x[t, lo + i], n)
                v[t, i] = n.v_threshold + beta * a[i]
            fire_each(s, d, u[t], v[t], n, smooth, kind, alpha)
            for i in range(size):
                h[i] = smooth_reset(u[t, i], s[i], of_channel(n, n.leak, v[t, i]))
                a[i] = adapt(a[i], s[i], rho, n)
        for t in range(T - 1, -1, -1):
            fire_each(s, d, u[t], v[t], n, smooth, kind, alpha)
            derivative_kernel(kind, alpha, d, n.zero, sg)
            for i in range(size):
                # a = rho * a + s: the adaptation that follows adds to the gradient of the spike
                spike, step = ds[t, lo + i] + da[lo + i], dh[lo + i]
                du = unfire(spike, step, u[t, i], s[i], sg[i], of_channel(n, n.leak, v[t, i]))
                # s = step(u - v): v gets minus what u gets through it; h = u - v * s: and, with soft reset, minus s
                through_reset = step * (n.one - (n.one - n.keep) * s[i])
                dv = -(du - through_reset) - n.keep * step * s[i]
                da[lo + i] = flushed(rho * da[lo + i] + beta * dv, n)
                dh[lo + i], dx[t, lo + i] = uncharge(du, n)


class ALIF(Spiking):
    """See ``alif``."""

    op = "alif"
    variables = 2

    @property
    def arguments(self) -> tuple[Any, ...]:
        n, smooth, kind, alpha = super().arguments
        return n, self.constants["beta"], self.constants["rho"], smooth, kind, alpha

    def run(self, s, state, x, *learned):
        alif_forward(s, *state, x, *self.arguments)

    def rewind(self, dx, dstate, ds):
        alif_backward(dx, *dstate, ds, self.x, *self.state, *self.arguments)
        return ()


def alif(
    x: Tensor,
    tau: float = 2.0,
    tau_adapt: float = 20.0,
    beta: float = 0.2,
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
    """Adaptive leaky integrate-and-fire neurons; the equations are in the module docstring.

    Args:
        x: input current, [T, ...], in units of the threshold.
        tau: membrane time constant in time steps, at least 1.
        tau_adapt: time constant of the adaptation in time steps, above 0.
        beta: rise of the threshold for each spike, 0 or more.
        v_threshold, v_reset, surrogate, detach_reset, decay_input, smooth, return_state, recurrent: as for ``lif``;
            v_threshold is the threshold of a neuron that has not fired.
        h0: potential and adaptation before the first step, [2, ...]; by default those at rest, v_reset and 0.

    Returns:
        Spikes, [T, ...]; with ``return_state`` (spikes, [2, ...]: potential, adaptation).

    Raises:
        ValueError: no time axis, a constant out of range, or h0 of another shape.
        TypeError: ``surrogate`` is not one of ``minisnn.surrogate``, or a constant is no number.
        FloatingPointError: a current is NaN, infinite or too large for a potential.
    """
    check_neurons(x, surrogate, "alif")
    tau, v_threshold, tau_adapt, beta = (
        constant(name, value, single=True)
        for name, value in dict(tau=tau, v_threshold=v_threshold, tau_adapt=tau_adapt, beta=beta).items()
    )
    if not tau_adapt > 0 or not np.isfinite(tau_adapt):
        raise ValueError(f"alif: tau_adapt is {tau_adapt!r} time steps; give a number above 0")
    if not 0 <= beta <= np.finfo(x.dtype).max:
        raise ValueError(f"alif: beta is {beta!r}; give a number of 0 or more")
    n, real = neuron(x.dtype, tau, v_threshold, v_reset, detach_reset, decay_input), np.dtype(x.dtype).type
    return carry(
        ALIF,
        x,
        h0=h0,
        return_state=return_state,
        recurrent=recurrent,
        n=n,
        beta=real(beta),
        rho=real(np.exp(-1 / tau_adapt)),
        surrogate=surrogate,
        smooth=bool(smooth),
    )

"""The leaky integrate-and-fire neuron, forward and backward through time.

Axes: T time steps, M neurons (any further axes, flattened in the order of the memory).
Symbols: u potential before the spike, h after the reset, s spikes, d<name> the gradient of the loss with respect to <name>.

The membrane obeys

    tau dV/dt = -(V - V_reset) + I(t)                                                     (Eq. 1)

and in steps of one, with H the potential after the reset,

    U[t] = H[t-1] + (I[t] - (H[t-1] - U_reset)) / tau          charge
    S[t] = Theta(U[t] - U_threshold)                           fire
    H[t] = U[t] (1 - S[t]) + U_reset S[t]                      reset                      (Eq. 2)

(the paper prints I[t-1]; its code, like all others, uses I[t]). A potential, or a gradient in the backward pass, whose
magnitude is below the smallest normal number counts as 0: a silent neuron would otherwise halve its potential into the
denormal numbers, on which a CPU is many times slower.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..engine import Function, Tensor
from ..jit import kernel, parallel_kernel, prange
from ..surrogate import ATan, Surrogate, derivative_kernel, primitive_kernel
from ..threads import get_num_threads
from ..types import DType
from .layout import by_time, from_memory

__all__ = ["lif", "LIF", "Neuron", "neuron"]

BLOCK = 1024  # neurons carried together through all time steps: their potentials stay in the first-level cache


class Neuron(NamedTuple):
    """The constants of Eq. 2, in the dtype of the input so that float32 arithmetic stays float32."""

    zero: float
    one: float
    leak: float  # 1 / tau: the fraction of the distance to rest that is lost in a step
    gain: float  # factor of the input: 1 / tau if the input decays too, else 1
    v_threshold: float
    v_rest: float  # where the potential starts and what it leaks to: v_reset, or 0 with soft reset
    keep: float  # the potential after a spike is keep * u + drop: 0 * u + v_reset (hard reset),
    drop: float  # or 1 * u - v_threshold (soft reset)
    tiny: float  # the smallest normal number of the dtype
    through_reset: float  # 1 if the gradient also flows through the reset's dependence on the spike, 0 if detached


# One step of one neuron, forward and backward. The loops below and those of fused.py are built from these; Numba inlines them.


@kernel
def flushed(value, n):
    return n.zero if abs(value) < n.tiny else value  # so written NaN stays NaN


@kernel
def charge(h, x, n):
    return flushed(h + (n.gain * x - n.leak * (h - n.v_rest)), n)


@kernel
def fires(u, n):
    return u >= n.v_threshold


@kernel
def reset(u, fired, n):
    return n.keep * u + n.drop if fired else u


@kernel
def smooth_reset(u, s, n):
    # the same for a spike that is a real number
    return u * (n.one - s) + (n.keep * u + n.drop) * s


@kernel
def uncharge(du, n):
    # u = h + (gain * x - leak * (h - v_rest)): the gradients of h and of x
    return flushed((n.one - n.leak) * du, n), n.gain * du


@kernel
def unfire(ds, dh, u, s, sg, n):
    # the gradient of u, through
    # h = u * (1 - s) + (keep * u + drop) * s
    dh_du = n.one - (n.one - n.keep) * s
    dh_ds = n.drop - (n.one - n.keep) * u
    # and s = step(u - v_threshold), whose derivative is taken to be sg
    return ds * sg + dh * (dh_du + n.through_reset * dh_ds * sg)


# Layers of neurons: M neurons, carried through time in blocks.


@kernel
def fire_all(s, u, n, smooth, kind, alpha):
    # s, u: [size]; s Booleans as bytes or, smooth, of u's dtype
    if smooth:
        primitive_kernel(kind, alpha, u, n.v_threshold, s)
    else:
        for i in range(u.size):
            s[i] = fires(u[i], n)


@parallel_kernel
def lif_forward(s, h, x, n, smooth, kind, alpha):
    # s, x: [T, M]; h: [M], receives the last potentials, which are NaN wherever a current was NaN or infinite; n: Neuron
    T, M = x.shape
    real = x.dtype.type
    for block in prange((M + BLOCK - 1) // BLOCK):
        lo, hi = block * BLOCK, min(M, block * BLOCK + BLOCK)
        h[lo:hi] = n.v_rest
        for t in range(T):
            for i in range(lo, hi):
                h[i] = charge(h[i], x[t, i], n)
            fire_all(s[t, lo:hi], h[lo:hi], n, smooth, kind, alpha)
            for i in range(lo, hi):
                h[i] = smooth_reset(h[i], real(s[t, i]), n) if smooth else reset(h[i], s[t, i] > 0, n)


@parallel_kernel
def lif_backward(dx, ds, x, u, s, sg, n, smooth, kind, alpha):
    # dx, ds, x: [T, M]; scratch of each worker: u [workers, T, BLOCK], s and sg [workers, BLOCK]; n: Neuron
    # Recompute the potentials from x: cheaper than storing them, and a T-th of the memory.
    T, M = x.shape
    blocks, workers = (M + BLOCK - 1) // BLOCK, u.shape[0]
    for w in prange(workers):
        for block in range(blocks * w // workers, blocks * (w + 1) // workers):
            lo = block * BLOCK
            size = min(BLOCK, M - lo)
            uw, sw, sgw = u[w, :, :size], s[w, :size], sg[w, :size]
            h = dh = np.full(size, n.v_rest, x.dtype)
            for t in range(T):
                for i in range(size):
                    uw[t, i] = charge(h[i], x[t, lo + i], n)
                fire_all(sw, uw[t], n, smooth, kind, alpha)
                for i in range(size):
                    h[i] = smooth_reset(uw[t, i], sw[i], n) if smooth else reset(uw[t, i], sw[i] > 0, n)
            dh[:] = 0  # nothing follows the last step
            for t in range(T - 1, -1, -1):
                fire_all(sw, uw[t], n, smooth, kind, alpha)
                derivative_kernel(kind, alpha, uw[t], n.v_threshold, sgw)
                for i in range(size):
                    du = unfire(ds[t, lo + i], dh[i], uw[t, i], sw[i], sgw[i], n)
                    dh[i], dx[t, lo + i] = uncharge(du, n)


def check_potentials(finite):
    """Reject currents that are NaN or infinite: no spike can pass them on, so the loss would stay finite over dead weights."""
    if not finite:
        raise FloatingPointError(
            "neurons were given a current that is NaN, infinite or too large; look for it in the input and in the "
            "weights, which grow without bound if the learning rate is too high"
        )


class LIF(Function):
    """See ``lif``."""

    makes_spikes = True
    op = "lif"

    def forward(self, x, n, surrogate, smooth):
        self.arguments = n, smooth, surrogate.kind, surrogate.alpha
        x, self.shape = by_time(x)
        s, h = np.empty(x.shape, x.dtype if smooth else np.uint8), np.empty(x.shape[1], x.dtype)
        lif_forward(s, h, x, *self.arguments)
        if not smooth:  # smooth neurons emit the NaN
            check_potentials(np.isfinite(h).all())
        self.x: Any = x if self.recording else None
        return from_memory((s if smooth else s.view(np.bool_)).reshape(self.shape))

    def backward(self, grad):
        x, dx, workers = self.x, np.empty_like(self.x), get_num_threads()
        u = np.empty((workers, len(x), BLOCK), x.dtype)
        s, sg = np.empty((2, workers, BLOCK), x.dtype)
        lif_backward(dx, by_time(grad)[0], x, u, s, sg, *self.arguments)
        return from_memory(dx.reshape(self.shape))


def neuron(
    dtype: DType,
    tau: float = 2.0,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
    detach_reset: bool = True,
    decay_input: bool = True,
) -> Neuron:
    """The constants of the loops, from the arguments of ``lif``.

    Args:
        dtype: of the input.
        tau, v_threshold, v_reset, detach_reset, decay_input: as for ``lif``.

    Returns:
        Neuron.

    Raises:
        ValueError: a constant out of range.
    """
    real, finfo = np.dtype(dtype).type, np.finfo(dtype)
    if not (np.isfinite(tau) and tau >= 1.0):
        raise ValueError(
            f"a neuron's tau is {tau!r} time steps; give a number of at least 1, where the potential does not overshoot"
        )
    if not abs(v_threshold) <= finfo.max or not (v_reset is None or abs(v_reset) <= finfo.max):
        raise ValueError(
            f"a neuron's v_threshold is {v_threshold!r} and v_reset {v_reset!r}; give finite numbers of "
            f"{np.dtype(dtype)}, or v_reset=None for soft reset"
        )
    hard = v_reset is not None
    rest = 0.0 if v_reset is None else v_reset
    if rest >= v_threshold:
        raise ValueError(
            f"the potential at rest, {'v_reset' if hard else 'with soft reset'} {rest}, is not below v_threshold "
            f"{v_threshold}: the neuron would fire without input"
        )
    return Neuron(
        *map(
            real,
            (
                0.0,
                1.0,
                1.0 / tau,
                1.0 / tau if decay_input else 1.0,
                v_threshold,
                rest,
                0.0 if hard else 1.0,
                v_reset if hard else -v_threshold,
                finfo.tiny,
                0.0 if detach_reset else 1.0,
            ),
        )
    )


def check_neurons(shape, surrogate):
    """Reject an input of ``shape`` without time steps, and anything that is not a surrogate."""
    if len(shape) < 1 or shape[0] == 0:
        raise ValueError(f"lif needs at least one time step on axis 0, got shape {shape}")
    if not isinstance(surrogate, Surrogate):
        raise TypeError(f"a neuron's surrogate is {surrogate!r}; give one of minisnn.surrogate, such as ATan()")


def lif(
    x: Tensor,
    tau: float = 2.0,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
    surrogate: Surrogate = ATan(),
    detach_reset: bool = True,
    decay_input: bool = True,
    smooth: bool = False,
) -> Tensor:
    """Leaky integrate-and-fire neurons: one for each element of a time step, from rest at t = 0.

    Eq. 2 of the paper (in the module docstring), with a spike where u >= v_threshold. Backward is backpropagation through
    time, with the surrogate's derivative in place of the step's.

    Args:
        x: input current, [T, ...], in units of the threshold.
        tau: membrane time constant in time steps, at least 1.
        v_threshold: potential at and above which a spike is emitted.
        v_reset: potential after a spike and at rest; None for soft reset, which subtracts v_threshold and rests at 0.
        surrogate: one of ``minisnn.surrogate``.
        detach_reset: whether the gradient stops at the spike's effect on the reset, as in the published code.
        decay_input: whether the input is divided by tau (as in Eq. 2) or added whole.
        smooth: emit the surrogate's primitive, a number between 0 and 1, instead of a spike. Then the backward loop with
            detach_reset=False is the exact derivative, and ``gradcheck`` can verify it.

    Returns:
        Spikes, [T, ...]: a Tensor of x's dtype that keeps them at one byte each (with ``smooth``, numbers of that dtype).

    Raises:
        ValueError: no time axis, or a constant out of range.
        TypeError: ``surrogate`` is not one of ``minisnn.surrogate``.
        FloatingPointError: a current is NaN, infinite or too large for a potential.
    """
    check_neurons(x.shape, surrogate)
    n = neuron(x.dtype, tau, v_threshold, v_reset, detach_reset, decay_input)
    return LIF.apply(x, n=n, surrogate=surrogate, smooth=bool(smooth))

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
from ..states import running
from ..surrogate import ATan, Surrogate, derivative_kernel, primitive_kernel
from ..threads import get_num_threads
from ..types import DType
from .layout import by_time, from_memory

__all__ = ["lif", "LIF", "ChannelLIF", "Neuron", "neuron", "carry"]

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
    decays: float  # 1 if the gain is the leak, 0 if it is 1


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
def unleak(du, h, x, n):
    # the gradient of the leak, which multiplies the input too if that decays
    return du * (n.decays * x - (h - n.v_rest))


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
    # s, x: [T, M]; n: Neuron; h: [M], the potentials before the first step, becomes those after the last, which are NaN
    # wherever a current was NaN or infinite
    T, M = x.shape
    real = x.dtype.type
    for block in prange((M + BLOCK - 1) // BLOCK):
        lo, hi = block * BLOCK, min(M, block * BLOCK + BLOCK)
        for t in range(T):
            for i in range(lo, hi):
                h[i] = charge(h[i], x[t, i], n)
            fire_all(s[t, lo:hi], h[lo:hi], n, smooth, kind, alpha)
            for i in range(lo, hi):
                h[i] = smooth_reset(h[i], real(s[t, i]), n) if smooth else reset(h[i], s[t, i] > 0, n)


@parallel_kernel
def lif_backward(dx, dh, dleak, ds, x, h0, u, s, sg, n, smooth, kind, alpha):
    # dx, ds, x: [T, M]; scratch of each worker: u [workers, T, BLOCK], s and sg [workers, BLOCK]; n: Neuron
    # h0: [M], the potentials before the first step; dh: [M], the gradient of those after the last, becomes that of h0
    # dleak: [M], 0, becomes the gradient of the leak, which is alike for all neurons: their sum; [0] if nobody asks
    # Recompute the potentials from x: cheaper than storing them, and a T-th of the memory.
    T, M = x.shape
    blocks, workers = (M + BLOCK - 1) // BLOCK, u.shape[0]
    for w in prange(workers):
        for block in range(blocks * w // workers, blocks * (w + 1) // workers):
            lo = block * BLOCK
            size = min(BLOCK, M - lo)
            uw, sw, sgw = u[w, :, :size], s[w, :size], sg[w, :size]
            h = h0[lo : lo + size].copy()
            for t in range(T):
                for i in range(size):
                    uw[t, i] = charge(h[i], x[t, lo + i], n)
                fire_all(sw, uw[t], n, smooth, kind, alpha)
                for i in range(size):
                    h[i] = smooth_reset(uw[t, i], sw[i], n) if smooth else reset(uw[t, i], sw[i] > 0, n)
            for t in range(T - 1, -1, -1):
                fire_all(sw, uw[t], n, smooth, kind, alpha)
                derivative_kernel(kind, alpha, uw[t], n.v_threshold, sgw)
                for i in range(size):
                    du = unfire(ds[t, lo + i], dh[lo + i], uw[t, i], sw[i], sgw[i], n)
                    sgw[i] = du
                    dh[lo + i], dx[t, lo + i] = uncharge(du, n)
                if dleak.size > 0:
                    if t > 0:
                        fire_all(sw, uw[t - 1], n, smooth, kind, alpha)
                    for i in range(size):
                        before = h0[lo + i]
                        if t > 0:
                            before = smooth_reset(uw[t - 1, i], sw[i], n)
                        dleak[lo + i] += unleak(sgw[i], before, x[t, lo + i], n)


# The same for neurons whose leak and threshold are those of their channel: neuron i is of channel i % C.


@kernel
def of_channel(n, leak, v_threshold):
    # n with the leak and the threshold of a channel: gain and drop follow from them
    gain = n.decays * leak + (n.one - n.decays)
    drop = (n.one - n.keep) * n.drop - n.keep * v_threshold
    return Neuron(n.zero, n.one, leak, gain, v_threshold, n.v_rest, n.keep, drop, n.tiny, n.through_reset, n.decays)


@kernel
def fire_each(s, d, u, v, n, smooth, kind, alpha):
    # s, d, u, v: [size]; v: a threshold for each neuron; d becomes u - v
    for i in range(u.size):
        d[i] = u[i] - v[i]
    if smooth:
        primitive_kernel(kind, alpha, d, n.zero, s)
    else:
        for i in range(u.size):
            s[i] = d[i] >= n.zero


@kernel
def repeat(out, row, first):
    # out[i] = row[(first + i) % C]
    c = first % row.size
    for i in range(out.size):
        out[i] = row[c]
        c = c + 1 if c + 1 < row.size else 0


@parallel_kernel
def channels_forward(s, h, x, leak, v, n, smooth, kind, alpha):
    # leak, v: [C], of which v is the threshold; otherwise as lif_forward
    T, M = x.shape
    real = x.dtype.type
    for block in prange((M + BLOCK - 1) // BLOCK):
        lo, hi = block * BLOCK, min(M, block * BLOCK + BLOCK)
        li, vi, d = np.empty((3, hi - lo), x.dtype)
        repeat(li, leak, lo)
        repeat(vi, v, lo)
        for t in range(T):
            for i in range(lo, hi):
                h[i] = charge(h[i], x[t, i], of_channel(n, li[i - lo], vi[i - lo]))
            fire_each(s[t, lo:hi], d, h[lo:hi], vi, n, smooth, kind, alpha)
            for i in range(lo, hi):
                h[i] = smooth_reset(h[i], real(s[t, i]), of_channel(n, li[i - lo], vi[i - lo]))


@parallel_kernel
def channels_backward(dx, dh, dleak, ds, x, h0, leak, v, n, smooth, kind, alpha):
    # leak, v: [C]; otherwise as lif_backward, but that dleak is always wanted
    T, M = x.shape
    for block in prange((M + BLOCK - 1) // BLOCK):
        lo = block * BLOCK
        size = min(BLOCK, M - lo)
        u, before = np.empty((T, size), x.dtype), np.empty((T, size), x.dtype)  # the potentials after and before the charge
        li, vi, d, s, sg = np.empty((5, size), x.dtype)
        repeat(li, leak, lo)
        repeat(vi, v, lo)
        h = h0[lo : lo + size].copy()
        for t in range(T):
            for i in range(size):
                before[t, i] = h[i]
                u[t, i] = charge(h[i], x[t, lo + i], of_channel(n, li[i], vi[i]))
            fire_each(s, d, u[t], vi, n, smooth, kind, alpha)
            for i in range(size):
                h[i] = smooth_reset(u[t, i], s[i], of_channel(n, li[i], vi[i]))
        for t in range(T - 1, -1, -1):
            fire_each(s, d, u[t], vi, n, smooth, kind, alpha)
            derivative_kernel(kind, alpha, d, n.zero, sg)
            for i in range(size):
                own = of_channel(n, li[i], vi[i])
                du = unfire(ds[t, lo + i], dh[lo + i], u[t, i], s[i], sg[i], own)
                dleak[lo + i] += unleak(du, before[t, i], x[t, lo + i], own)
                dh[lo + i], dx[t, lo + i] = uncharge(du, own)


def check_potentials(finite):
    """Reject currents that are NaN or infinite: no spike can pass them on, so the loss would stay finite over dead weights."""
    if not finite:
        raise FloatingPointError(
            "neurons were given a current that is NaN, infinite or too large; look for it in the input and in the "
            "weights, which grow without bound if the learning rate is too high"
        )


class Spiking(Function):
    """What all layers of neurons share: a subclass has the loops. Its inputs are the currents [T, ...], ``learned`` constants,
    and then, where it does not start from rest, the state: [...] or, of neurons with several variables, [variables, ...].
    """

    makes_spikes = True
    learned = 0  # inputs between the currents and the state
    variables = 1  # that are carried from one step to the next, the potential first

    def forward(self, x, *others, n, smooth, surrogate, kept, **constants):
        self.n, self.smooth, self.surrogate, self.constants = n, smooth, surrogate, constants
        x, self.shape = by_time(x)
        state = np.zeros((self.variables, x.shape[1]), x.dtype)
        state[0] = n.v_rest
        self.starts = len(others) > self.learned
        if self.starts:
            state[...] = by_time(with_variables(others[-1], self.variables))[0]
        self.x: Any = x if self.recording else None
        self.state: Any = state.copy() if self.recording else None
        s = np.empty(x.shape, x.dtype if smooth else np.uint8)
        self.run(s, state, x, *others[: self.learned])
        if not smooth:  # smooth neurons emit the NaN
            check_potentials(np.isfinite(state).all())
        if kept is not None:
            kept += [self, self.public(state)]
        return from_memory((s if smooth else s.view(np.bool_)).reshape(self.shape))

    def public(self, state):
        """[variables, M] as the state that users see."""
        public = from_memory(state.reshape(-1, *self.shape[1:]))
        return public[0] if self.variables == 1 else public

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The last arguments of every loop."""
        return self.n, self.smooth, self.surrogate.kind, self.surrogate.alpha

    def run(self, s: Any, state: Any, x: Any, *learned: Any) -> None:
        """Fill s [T, M] and move state [variables, M] from before the first step to after the last."""
        raise NotImplementedError

    def rewind(self, dx: Any, dstate: Any, ds: Any) -> tuple[Any, ...]:
        """Fill dx from ds [T, M] and turn dstate from that after the last step into that before the first; returns a tuple of
        the gradients of what is learned.
        """
        raise NotImplementedError

    def gradients(self, ds, dstate):
        """Those of all inputs."""
        dx = np.empty_like(self.x)
        learned = self.rewind(dx, dstate, ds)
        dx = from_memory(dx.reshape(self.shape))
        return (dx, *learned, self.public(dstate)) if self.starts else (dx, *learned)

    def backward(self, grad):
        return self.gradients(by_time(grad)[0], np.zeros_like(self.state))


class LastState(Function):
    """The state after the last step, as a result of its own: gradients add up, so that its share is a walk back through time
    from the state alone.
    """

    def forward(self, *inputs, kept):
        node, state = kept
        self.kind, self.saved = type(node), dict(vars(node))  # the node itself may be freed earlier
        return np.array(state, order="K")

    def backward(self, grad):
        node = self.kind()
        vars(node).update(self.saved)
        dstate = by_time(with_variables(grad, node.variables))[0].copy()
        return node.gradients(np.zeros_like(node.x), dstate)


def with_variables(state, variables):
    """The state that users see as [variables, ...]."""
    return state[None] if variables == 1 else state


def carry(
    kind: type[Spiking],
    x: Tensor,
    learned: tuple = (),
    h0: Any = None,
    return_state: bool = False,
    recurrent: tuple[Any, Tensor, Tensor] | None = None,
    **options: Any,
) -> Any:
    """Apply a layer of neurons from the state ``h0`` on; the spikes, or with ``return_state`` (spikes, state). ``recurrent`` is
    (what makes recurrent neurons of a kind, weight, bias); see recurrent.py.
    """
    if recurrent is not None:
        kind, learned = recurrent[0](kind), (*learned, *recurrent[1:])
    kept_by_stream = running()
    if kept_by_stream is not None and not (kept_by_stream.held or h0 is not None or return_state):  # called from a forward
        return kept_by_stream.step(kind.op, lambda state: carry(kind, x, learned, state, True, **options))
    inputs = (x, *learned)
    if h0 is not None:
        h0 = h0 if isinstance(h0, Tensor) else Tensor(np.asarray(h0), dtype=x.dtype)
        wanted = (kind.variables, *x.shape[1:])[kind.variables == 1 :]
        if h0.shape != wanted:
            raise ValueError(f"{kind.op}: h0 has shape {h0.shape}; for currents of shape {x.shape} give {wanted}")
        inputs += (h0,)
    kept: Any = [] if return_state else None
    s = kind.apply(*inputs, kept=kept, **options)
    return (s, LastState.apply(*inputs, kept=kept)) if return_state else s


class LIF(Spiking):
    """See ``lif``."""

    op = "lif"

    def run(self, s, state, x, *learned):
        lif_forward(s, state[0], x, *self.arguments)

    def rewind(self, dx, dstate, ds):
        return self.leaking(dx, dstate, ds, np.empty(0, dx.dtype))

    def leaking(self, dx, dstate, ds, dleak):
        x, workers = self.x, get_num_threads()
        u = np.empty((workers, len(x), BLOCK), x.dtype)
        s, sg = np.empty((2, workers, BLOCK), x.dtype)
        lif_backward(dx, dstate[0], dleak, ds, x, self.state[0], u, s, sg, *self.arguments)
        return ()


class ChannelLIF(Spiking):
    """See ``lif``: leak and threshold of each channel."""

    op = "lif"

    def run(self, s, state, x, *learned):
        channels_forward(s, state[0], x, self.constants["leak"], self.constants["v"], *self.arguments)

    def rewind(self, dx, dstate, ds):
        return self.leaking(dx, dstate, ds, np.zeros(dx.shape[1], dx.dtype))

    def leaking(self, dx, dstate, ds, dleak):
        rates = self.constants["leak"], self.constants["v"]
        channels_backward(dx, dstate[0], dleak, ds, self.x, self.state[0], *rates, *self.arguments)
        return ()


def channel_count(shape):
    """Channels of currents [T, ..., C, H, W] or, of up to three axes, [T, ..., C]."""
    return shape[-3] if len(shape) >= 4 else shape[-1] if len(shape) > 1 else 1


def constant(name, value, single=False):
    """A constant of neurons: a float or, unless ``single``, an array of one for each channel.

    Raises TypeError if it is neither.
    """
    if isinstance(value, Tensor):
        raise TypeError(
            f"a neuron's {name} is a Tensor; give a number, or an ndarray of one for each channel (what is to be learned is "
            "PLIF's time constant)"
        )
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or array.ndim > 1 or array.size == 0:
        raise TypeError(f"a neuron's {name} is {value!r}; give a number, or an ndarray [C] of one for each channel")
    if single and array.ndim:
        raise TypeError(f"a neuron's {name} is an array; give a number (LIF, IF and PLIF take one for each channel)")
    return float(array) if array.ndim == 0 else array


def by_channel(shape, dtype, tau, v_threshold, **constants):
    """(Neuron, leak [C], v_threshold [C]) where one of the two is an array. Raises ValueError: it is not of C channels."""
    C = channel_count(shape)
    for name, value in dict(tau=tau, v_threshold=v_threshold).items():
        if np.ndim(value) and np.shape(value) != (C,):
            raise ValueError(f"a neuron's {name} has shape {np.shape(value)}; the currents {shape} have {C} channels")
    each = [neuron(dtype, *pair, **constants) for pair in zip(*np.broadcast_arrays(np.full(C, tau), np.full(C, v_threshold)))]
    return each[0], np.array([n.leak for n in each]), np.array([n.v_threshold for n in each])


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
                1.0 if decay_input else 0.0,
            ),
        )
    )


def check_neurons(x, surrogate, op="lif"):
    """Reject an input without time steps, and anything that is not a surrogate."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{op} takes Tensors, not {type(x).__name__}; wrap it in Tensor(...)")
    if x.ndim < 1 or x.shape[0] == 0:
        raise ValueError(f"{op} needs at least one time step on axis 0, got shape {x.shape}")
    if not isinstance(surrogate, Surrogate):
        raise TypeError(f"a neuron's surrogate is {surrogate!r}; give one of minisnn.surrogate, such as ATan()")


def lif(
    x: Tensor,
    tau: float | np.ndarray = 2.0,
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
    """Leaky integrate-and-fire neurons: one for each element of a time step, from rest at t = 0.

    Eq. 2 of the paper (in the module docstring), with a spike where u >= v_threshold. Backward is backpropagation through
    time, with the surrogate's derivative in place of the step's.

    Args:
        x: input current, [T, ...], in units of the threshold.
        tau: membrane time constant in time steps, at least 1: a number, or one for each channel, ndarray [C]. Channels are
            axis -3 of currents of four axes and more, [T, N, C, H, W], and the last axis of others, [T, N, C].
        v_threshold: potential at and above which a spike is emitted: a number, or one for each channel.
        v_reset: potential after a spike and at rest; None for soft reset, which subtracts v_threshold and rests at 0.
        surrogate: one of ``minisnn.surrogate``.
        detach_reset: whether the gradient stops at the spike's effect on the reset, as in the published code.
        decay_input: whether the input is divided by tau (as in Eq. 2) or added whole.
        smooth: emit the surrogate's primitive, a number between 0 and 1, instead of a spike. Then the backward loop with
            detach_reset=False is the exact derivative, and ``gradcheck`` can verify it.
        h0: potential before the first step, [...], the shape of x without its time axis; by default v_reset (0 with soft
            reset). Gradients flow through it.
        return_state: return the potential after the last step too, from which a further call continues to the same bits.
        recurrent: how the spikes reach the neurons again; ``ops.recurrent`` sets it.

    Returns:
        Spikes, [T, ...]: a Tensor of x's dtype that keeps them at one byte each (with ``smooth``, numbers of that dtype).
        With ``return_state``, (spikes, potential [...]).

    Raises:
        ValueError: no time axis, a constant out of range or not of C channels, or h0 of another shape.
        TypeError: ``surrogate`` is not one of ``minisnn.surrogate``, or a constant is a Tensor or no number.
        FloatingPointError: a current is NaN, infinite or too large for a potential.
    """
    check_neurons(x, surrogate)
    tau, v_threshold = constant("tau", tau), constant("v_threshold", v_threshold)
    options: dict[str, Any] = dict(
        h0=h0, return_state=return_state, recurrent=recurrent, surrogate=surrogate, smooth=bool(smooth)
    )
    shared: dict[str, Any] = dict(v_reset=v_reset, detach_reset=detach_reset, decay_input=decay_input)
    if isinstance(tau, float) and isinstance(v_threshold, float):
        return carry(LIF, x, n=neuron(x.dtype, tau, v_threshold, **shared), **options)
    n, leak, v = by_channel(x.shape, x.dtype, tau, v_threshold, **shared)
    return carry(ChannelLIF, x, n=n, leak=leak, v=v, **options)

"""Layers: parameters and a call into ``ops``, nothing else.

Initial weights are those of PyTorch's layers: uniform within 1 / sqrt(fan_in); batch norm starts at weight 1, bias 0.
Attention is the exception; see its docstring.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .. import ledger, ops, parallel, states
from ..engine import Tensor, generator
from ..ops.attention import attention_scores, dimension_of, pooled
from ..ops.lif import constant
from ..ops.plif import sigmoid
from ..surrogate import ATan, Surrogate
from ..types import DType
from .module import Layer, Module, Parameter

__all__ = [
    "Conv2d",
    "BatchNorm2d",
    "BatchNorm1d",
    "Flatten",
    "Neurons",
    "LIF",
    "IF",
    "PLIF",
    "ALIF",
    "Synaptic",
    "NEURONS",
    "Attention",
    "MaxPool2d",
    "AvgPool2d",
    "AdaptiveAvgPool2d",
    "Linear",
    "Recurrent",
    "Dropout",
    "Join",
]


def uniform(shape, fan_in, rng, dtype):
    """Uniform numbers within 1 / sqrt(fan_in)."""
    bound = 1.0 / np.sqrt(fan_in)
    return (generator() if rng is None else rng).uniform(-bound, bound, shape).astype(dtype)


class Conv2d(Layer):
    """Convolution (``ops.conv2d``), by default without bias, as before a batch norm.

    Args:
        in_channels, out_channels: Cin, Cout.
        kernel, stride, padding: pixels.
        bias: whether to add a learned number to each output channel.
        method: "auto", "event" or "dense", as for ``ops.conv2d``; in evaluation mode "auto" takes events for all spikes.
        rng, dtype: of the initial weights.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = False,
        method: str = "auto",
        rng: np.random.Generator | None = None,
        dtype: DType = "float32",
    ) -> None:
        fan_in = in_channels * kernel * kernel
        w = uniform((out_channels, in_channels, kernel, kernel), fan_in, rng, dtype)
        # in memory [kh, kw, Cin, Cout], which is how the loops read it
        self.weight = Parameter(np.ascontiguousarray(w.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1))
        self.bias = Parameter(uniform((out_channels,), fan_in, rng, dtype)) if bias else None
        self.stride, self.padding, self.method = stride, padding, method

    def forward(self, x: Tensor) -> Tensor:
        method = self.method
        if method == "auto" and not self.training:
            # Which method is faster depends on the whole batch, and the two round differently: a sample's result would depend
            # on its neighbors.
            method = "event" if x.is_spikes else "dense"
        return ops.conv2d(x, self.weight, self.stride, self.padding, method, self.bias)


class BatchNorm2d(Layer):
    """Batch normalization over (T, N, H, W) (``ops.batch_norm``)."""

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5, dtype: DType = "float32") -> None:
        self.weight, self.bias = Parameter(np.ones(channels, dtype)), Parameter(np.zeros(channels, dtype))
        self.running_mean, self.running_var = np.zeros(channels, dtype), np.ones(channels, dtype)
        self.momentum, self.eps = momentum, eps

    def forward(self, x: Tensor) -> Tensor:
        return ops.batch_norm(
            x, self.weight, self.bias, self.running_mean, self.running_var, self.training, self.momentum, self.eps
        )


class BatchNorm1d(BatchNorm2d):
    """Batch normalization of features over (T, N) (``ops.batch_norm``): [T, N, F] to [T, N, F]; its arguments are those of
    BatchNorm2d.
    """

    def forward(self, x: Tensor) -> Tensor:
        check_features("nn.BatchNorm1d", x)
        return super().forward(x.reshape(*x.shape, 1, 1)).reshape(x.shape)


class Flatten(Layer):
    """The features of each sample and step in one row: [T, N, C, H, W] to [T, N, C * H * W], in the order of the axes;
    [T, N, F] stays. Spikes stay spikes.

    Raises:
        ValueError: another number of axes, of which it cannot be told whether time is among them.
    """

    def forward(self, x: Tensor) -> Tensor:
        check_time("nn.Flatten", x)
        return x if x.ndim == 3 else x.reshape(*x.shape[:2], -1)


class Neurons(Layer):
    """The base of all layers of neurons: ``forward`` takes currents [T, N, F] or [T, N, C, H, W] and returns spikes of that
    shape. Other numbers of axes are refused: [N, F] and [N, C, H, W] have no time steps, and N would silently be taken for T.
    (The operations, such as ``ops.lif``, take any [T, ...].) A network accepts any of them, by its name in NEURONS.

    Neurons of your own are a Function that returns Booleans, and a layer that applies it. They are counted like any others
    (``energy.measure``), and the next layer adds weights for their spikes:

        class Threshold(Function):
            def forward(self, x):
                self.x = x
                return x >= 1                                           # Booleans: spikes

            def backward(self, grad):
                return grad * ATan().derivative(self.x - 1)

        class Thresholds(nn.Neurons):
            def forward(self, x):
                return Threshold.apply(x)

    Neurons that carry something from step to step also take ``h0``, their state before the first step (None: at rest), and
    ``return_state``, with which they return (spikes, state): then ``nn.Stream`` can run them step by step.
    """

    options: Mapping[str, Any] = {}  # the constants
    operation: Callable[..., Any] | None = None  # of ``ops``, if ``forward`` is that with the options and the parameters
    learns = False  # whether it has parameters: then it takes their ``dtype``
    potentials_of_lif = False  # whether the potentials are those of ``ops.lif`` with these constants, as the figures draw them

    def after(self, norm: Module, attention: Module | None, x: Tensor) -> Tensor:
        """The spikes of these neurons for ``attention(norm(x))``; ``attention`` may be None. A subclass with a faster
        method overrides it, as LIF, IF and PLIF do; ALIF and Synaptic have a second state variable, which the fused loops do
        not carry, and take this plain composition.
        """
        x = norm(x)
        return self(x if attention is None else attention(x))

    def fused(
        self, norm: Module, attention: Module | None, x: Tensor, w: Tensor | None = None, leak: float | None = None, **more: Any
    ) -> Tensor:
        """``after`` by ``ops.norm_fire``, or as above where that does not know these constants: smooth, or for each channel.

        Args:
            norm, attention, x: as for ``after``.
            w: PLIF's parameter.
            leak: in place of 1 / tau.
            **more: constants for ``ops.neuron`` besides the options.
        """
        if self.options["smooth"] or any(np.ndim(value) for value in self.options.values()) or (w is not None and w.ndim):
            return Neurons.after(self, norm, attention, x)
        constants = {k: v for k, v in self.options.items() if k not in ("surrogate", "smooth")}
        n = ops.neuron(x.dtype, **constants, **more)
        if leak is not None:
            n = n._replace(leak=x.dtype.type(leak))
        gate: dict[str, Any] = {}
        names = {"norm": norm._name}
        if attention is not None:
            gate = dict(dim=attention.dim, attention=attention.weights, spiking=attention.spiking)
            names["attention"] = attention._name

        def fire(**state):
            with ledger.scope(self._name, **names):
                return ops.norm_fire(
                    x,
                    norm.weight,
                    norm.bias,
                    norm.running_mean,
                    norm.running_var,
                    n,
                    self.options["surrogate"],
                    norm.training,
                    norm.momentum,
                    norm.eps,
                    **gate,
                    **state,
                    w=w,
                )

        kept = states.running()
        return fire() if kept is None else kept.step(self, lambda state: fire(h0=state, return_state=True))

    def _run(self, *inputs, **options):
        inputs = self.tensors(inputs)
        check_time(f"nn.{type(self).__name__}", inputs[0])
        kept = states.running()
        if kept is None or len(inputs) > 1 or options:
            return self.forward(*inputs, **options)
        forward: Any = self.forward
        return kept.step(self, lambda state: forward(*inputs, h0=state, return_state=True))


class LIF(Neurons):
    """Leaky integrate-and-fire neurons (``ops.lif``, which explains the arguments); at rest before every call, unless it is
    given a state.
    """

    operation = staticmethod(ops.lif)

    def __init__(
        self,
        tau: float | np.ndarray = 2.0,
        v_threshold: float | np.ndarray = 1.0,
        v_reset: float | None = 0.0,
        surrogate: Surrogate = ATan(),
        detach_reset: bool = True,
        decay_input: bool = True,
        smooth: bool = False,
    ) -> None:
        self.options = dict(
            tau=constant("tau", tau),
            v_threshold=constant("v_threshold", v_threshold),
            v_reset=v_reset,
            surrogate=surrogate,
            detach_reset=detach_reset,
            decay_input=decay_input,
            smooth=smooth,
        )
        check_constants(ops.lif, self.options)
        self.each = any(np.ndim(self.options[name]) for name in ("tau", "v_threshold"))  # constants for each channel
        self.potentials_of_lif = not self.each

    def forward(self, x: Tensor, h0: Tensor | None = None, return_state: bool = False) -> Any:
        return ops.lif(x, **self.options, h0=h0, return_state=return_state)

    def after(self, norm: Module, attention: Module | None, x: Tensor) -> Tensor:
        """The same, by the fused operation."""
        return self.fused(norm, attention, x)


class IF(Neurons):
    """Integrate-and-fire neurons (``ops.if_``, which explains the arguments)."""

    operation = staticmethod(ops.if_)

    def __init__(
        self,
        v_threshold: float | np.ndarray = 1.0,
        v_reset: float | None = 0.0,
        surrogate: Surrogate = ATan(),
        detach_reset: bool = True,
        smooth: bool = False,
    ) -> None:
        self.options = dict(
            v_threshold=constant("v_threshold", v_threshold),
            v_reset=v_reset,
            surrogate=surrogate,
            detach_reset=detach_reset,
            smooth=smooth,
        )
        check_constants(ops.if_, self.options)

    def forward(self, x: Tensor, h0: Tensor | None = None, return_state: bool = False) -> Any:
        return ops.if_(x, **self.options, h0=h0, return_state=return_state)

    def after(self, norm: Module, attention: Module | None, x: Tensor) -> Tensor:
        """The same, by the fused operation."""
        return self.fused(norm, attention, x, leak=0.0, tau=1.0, decay_input=False)


class PLIF(Neurons):
    """Leaky integrate-and-fire neurons with a learned time constant (``ops.plif``, which explains the other arguments).

    Args:
        init_tau: the time constant to begin with, in time steps, above 1.
        per_channel: whether each of ``channels`` channels has one of its own, instead of one for the layer.
        channels: C, where ``per_channel``.
        dtype: of the parameter ``w``; 1 / tau = sigmoid(w).

    Raises:
        ValueError: init_tau is not above 1, or per_channel without channels.
    """

    learns, operation = True, staticmethod(ops.plif)

    def __init__(
        self,
        init_tau: float = 2.0,
        v_threshold: float | np.ndarray = 1.0,
        v_reset: float | None = 0.0,
        surrogate: Surrogate = ATan(),
        detach_reset: bool = True,
        decay_input: bool = True,
        smooth: bool = False,
        per_channel: bool = False,
        channels: int | None = None,
        dtype: DType = "float32",
    ) -> None:
        init_tau = constant("init_tau", init_tau, single=True)
        if not (np.isfinite(init_tau) and init_tau > 1):
            raise ValueError(f"a neuron's init_tau is {init_tau!r} time steps; give a number above 1")
        if per_channel != (channels is not None):
            raise ValueError(f"per_channel={per_channel} and channels={channels}; give both, as per_channel=True, channels=64")
        self.options = dict(
            v_threshold=constant("v_threshold", v_threshold),
            v_reset=v_reset,
            surrogate=surrogate,
            detach_reset=detach_reset,
            decay_input=decay_input,
            smooth=smooth,
        )
        check_constants(ops.lif, self.options)
        self.w = Parameter(np.full(() if channels is None else channels, -np.log(init_tau - 1), dtype))

    @property
    def tau(self) -> np.ndarray:
        """The time constants that have been learned, in time steps: [] or [C]."""
        return 1 / sigmoid(self.w.data)

    def forward(self, x: Tensor, h0: Tensor | None = None, return_state: bool = False) -> Any:
        return ops.plif(x, self.w, **self.options, h0=h0, return_state=return_state)

    def after(self, norm: Module, attention: Module | None, x: Tensor) -> Tensor:
        """The same, by the fused operation."""
        return self.fused(norm, attention, x, w=self.w)


class ALIF(Neurons):
    """Leaky integrate-and-fire neurons with an adaptive threshold (``ops.alif``, which explains the arguments)."""

    operation = staticmethod(ops.alif)

    def __init__(
        self,
        tau: float = 2.0,
        tau_adapt: float = 20.0,
        beta: float = 0.2,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate: Surrogate = ATan(),
        detach_reset: bool = True,
        decay_input: bool = True,
        smooth: bool = False,
    ) -> None:
        self.options = dict(
            tau=tau,
            tau_adapt=tau_adapt,
            beta=beta,
            v_threshold=v_threshold,
            v_reset=v_reset,
            surrogate=surrogate,
            detach_reset=detach_reset,
            decay_input=decay_input,
            smooth=smooth,
        )
        check_constants(ops.alif, self.options)

    def forward(self, x: Tensor, h0: Tensor | None = None, return_state: bool = False) -> Any:
        return ops.alif(x, **self.options, h0=h0, return_state=return_state)


class Synaptic(Neurons):
    """Leaky integrate-and-fire neurons after a synapse that decays (``ops.synaptic``, which explains the arguments)."""

    operation = staticmethod(ops.synaptic)

    def __init__(
        self,
        tau_syn: float = 5.0,
        tau: float = 2.0,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate: Surrogate = ATan(),
        detach_reset: bool = True,
        decay_input: bool = True,
        smooth: bool = False,
    ) -> None:
        self.options = dict(
            tau_syn=tau_syn,
            tau=tau,
            v_threshold=v_threshold,
            v_reset=v_reset,
            surrogate=surrogate,
            detach_reset=detach_reset,
            decay_input=decay_input,
            smooth=smooth,
        )
        check_constants(ops.synaptic, self.options)

    def forward(self, x: Tensor, h0: Tensor | None = None, return_state: bool = False) -> Any:
        return ops.synaptic(x, **self.options, h0=h0, return_state=return_state)


def check_time(name, x):
    """Refuse an input that has no time axis, or of which that cannot be told."""
    if isinstance(x, Tensor) and x.ndim not in (3, 5):
        raise ValueError(
            f"{name}: x has shape {x.shape}; give [T, N, F] or [T, N, C, H, W], with time steps on axis 0; x[None] for a "
            "single one"
        )


def check_constants(op, options):
    """Refuse constants out of range at once, as the operation would at the first call."""
    each = [np.shape(value)[0] for value in options.values() if np.ndim(value)]
    with ledger.ledger(), states.run_with(None):  # this call is nobody's
        op(Tensor(np.zeros((1, each[0] if each else 1), np.float32)), **options)


# The neurons that a network can be built from. The command line, which starts without the compiler, has their names from
# models.presets.NEURON_NAMES.
NEURONS: dict[str, Any] = {"lif": LIF, "if": IF, "plif": PLIF, "alif": ALIF, "synaptic": Synaptic}


def check_features(name, x):
    """Refuse anything but features with time steps."""
    if x.ndim != 3:
        raise ValueError(f"{name}: x has shape {x.shape}; give [T, N, F], with time on axis 0 (nn.Flatten makes it of maps)")


def averaging(shape, fan_in, rng, dtype):
    """Uniform numbers from 0 to 2 / fan_in, so that the weighted sum is, on average, the mean of its inputs."""
    return (generator() if rng is None else rng).uniform(0, 2 / fan_in, shape).astype(dtype)


STARTS = {"open": averaging, "pytorch": uniform}  # how the weights of attention begin


class Attention(Layer):
    """MA, or with ``spiking`` IA, over one dimension (``ops.attention``).

    It starts open. With initial weights of both signs a score begins at sigmoid(0) = 1/2, which halves an input that neurons
    of tau = 2 then halve again: hardly any of them fires, and IA's neurons, which pass nothing until they fire, may never
    fire at all. Weights that average the maxima, which are positive after a batch norm, begin with scores near 1 and with
    neurons that fire: the network starts out like the one without attention, and learns what to close.

    Args:
        dim: "t", "c" or "s"; see DIMENSIONS in ops/attention.py.
        timesteps, channels: T and C.
        spiking: IA, whose scores are spikes of LIF neurons, instead of MA, whose scores are sigmoids.
        kernel: side of the kernel in "s".
        start: "open", as above, or "pytorch": weights of both signs, as in the published code, with which attention over space
            often never learns.
        rng, dtype: of the initial weights.
    """

    needs_all_steps = True  # it pools over time, or over time and space

    def __init__(
        self,
        dim: str,
        timesteps: int,
        channels: int,
        spiking: bool = False,
        kernel: int = 3,
        rng: np.random.Generator | None = None,
        dtype: DType = "float32",
        start: str = "open",
    ) -> None:
        if start not in STARTS:
            raise ValueError(f"start is {start!r}; give one of {', '.join(STARTS)}")
        self.dim, self.spiking = dim, spiking
        shapes = dimension_of(dim).weights(timesteps, channels, kernel)
        self.names = tuple(shapes)
        for name, (shape, fan_in) in shapes.items():
            setattr(self, name, Parameter(STARTS[start](shape, fan_in, rng, dtype)))

    @property
    def weights(self) -> tuple[Parameter, ...]:
        """The weights as ``ops.attention`` takes them."""
        return tuple(getattr(self, name) for name in self.names)

    def scores(self, x: Tensor) -> Tensor:
        """The scores of x [T, N, C, H, W]: a Tensor [N, T], [N, C] or, in space, [N, H, W]."""
        scores = attention_scores(pooled(x, self.dim), self.weights, self.dim, self.spiking, x.shape[3:])
        return scores.reshape(-1, *x.shape[3:]) if dimension_of(self.dim).by_pixel else scores

    def forward(self, x: Tensor) -> Tensor:
        return ops.attention(x, self.dim, *self.weights, spiking=self.spiking)


class MaxPool2d(Layer):
    """The largest value of each window (``ops.max_pool2d``)."""

    def __init__(self, kernel: int, stride: int | None = None, padding: int = 0) -> None:
        self.window = kernel, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return ops.max_pool2d(x, *self.window)


class AvgPool2d(Layer):
    """The mean of each window (``ops.avg_pool2d``)."""

    def __init__(self, kernel: int, stride: int | None = None, padding: int = 0) -> None:
        self.window = kernel, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return ops.avg_pool2d(x, *self.window)


class AdaptiveAvgPool2d(Layer):
    """The mean of each of size x size bins (``ops.adaptive_avg_pool2d``)."""

    def __init__(self, size: int) -> None:
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return ops.adaptive_avg_pool2d(x, self.size)


class Linear(Layer):
    """x @ weight.T + bias (``ops.linear``); spikes only add."""

    def __init__(
        self, in_features: int, out_features: int, rng: np.random.Generator | None = None, dtype: DType = "float32"
    ) -> None:
        w = uniform((out_features, in_features), in_features, rng, dtype)
        self.weight = Parameter(np.ascontiguousarray(w.T).T)  # in memory [in, out], which is how the loops read it
        self.bias = Parameter(uniform((out_features,), in_features, rng, dtype))

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias)


class Recurrent(Neurons):
    """Neurons whose spikes reach them again one step later, through a linear layer (``ops.recurrent``):
    s[t] = neurons(x[t] + layer(s[t-1])), with s[-1] = 0.

        nn.Recurrent(nn.Linear(64, 64), nn.LIF())

    Args:
        layer: nn.Linear(F, F).
        neurons: any layer of nn.Neurons that takes ``h0`` and ``return_state``. Those of NEURONS have their backpropagation
            through time written out; of others, every step is recorded on the tape.

    Input and output: [T, N, F]. The state has one variable more than that of the neurons, their last spikes; of neurons of
    your own it is a pair (their state, last spikes).

    Raises:
        ValueError: a layer that is not square, or neurons that cannot continue from a state.
    """

    def __init__(self, layer: Linear, neurons: Neurons) -> None:
        if not isinstance(layer, Linear) or layer.weight.shape[0] != layer.weight.shape[1]:
            what = f"Linear{layer.weight.shape[::-1]}" if isinstance(layer, Linear) else type(layer).__name__
            raise ValueError(f"Recurrent: the layer is {what}; give nn.Linear(F, F), from neurons to the same neurons")
        takes = set(inspect.signature(neurons.forward).parameters)
        if not isinstance(neurons, Neurons) or not {"h0", "return_state"} <= takes:
            raise ValueError(f"Recurrent: {type(neurons).__name__} cannot continue from a state; give nn.LIF(), say")
        self.layer, self.neurons = layer, neurons

    def forward(self, x: Tensor, h0: Any = None, return_state: bool = False) -> Any:
        check_features("nn.Recurrent", x)
        neurons, layer = self.neurons, self.layer
        if neurons.operation is not None:
            learned = {name: p for name, p in vars(neurons).items() if isinstance(p, Parameter)}
            options = dict(neurons.options, **learned)
            return ops.recurrent(x, layer.weight, layer.bias, neurons.operation, h0=h0, return_state=return_state, **options)
        step: Any = neurons.forward
        state, s = (None, Tensor(np.zeros(x.shape[1:], bool), dtype=x.dtype)) if h0 is None else h0
        spikes = []
        for t in range(x.shape[0]):
            current = ops.add(ops.index(x, slice(t, t + 1)), ops.linear(s, layer.weight, layer.bias))
            out, state = step(current, h0=state, return_state=True)
            s = out[0]
            spikes.append(s)
        return (ops.stack(spikes), (state, s)) if return_state else ops.stack(spikes)


class Dropout(Layer):
    """In training, sets each entry to 0 with probability ``share`` and divides the others by 1 - share, so that the mean stays;
    in evaluation mode, nothing (Srivastava et al. 2014). One mask serves all time steps: a mask of its own for each step would
    average out over T.

    Args:
        share: from 0 up to but not including 1.

    Input and output: [T, N, ...]. The masks come from the generator that ``manual_seed`` restarts.

    Raises:
        ValueError: a share out of range.
    """

    def __init__(self, share: float = 0.5) -> None:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
            raise ValueError(f"dropout of {share!r}; give a share from 0 up to but not including 1")
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.share == 0:
            return x
        count, rows = parallel.whole_batch(x.shape[1])
        kept = generator().random((1, count, *x.shape[2:]))[:, rows] >= self.share
        return ops.mul(x, Tensor((kept / (1 - self.share)).astype(x.dtype)))


class Join(Layer):
    """The join of main branch and shortcut (``ops.join``): "or", "add", "and" or "iand"."""

    def __init__(self, how: str = "or") -> None:
        self.how = how

    def forward(self, main: Tensor, shortcut: Tensor) -> Tensor:
        return ops.join(main, shortcut, self.how)

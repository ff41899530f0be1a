"""Networks as graphs of the Neuromorphic Intermediate Representation (NIR; Pedersen et al. 2024), and back.

NIR's nodes are equations in continuous time; ``dt`` is the length of a time step, in seconds. What a node has to say so that
these networks' steps come out of it (forward Euler, one step of dt):

    LIF        tau v' = (v_leak - v) + r I    tau = our tau * dt, r = 1 (r = our tau where the input is not divided by it)
    IF         v' = r I                       r = 1 / dt
    CubaLIF    tau_syn I' = -I + w_in S       w_in = our tau_syn; where the input is divided by tau, the threshold is
               tau_mem v' = -v + r I          multiplied by it instead, since the peers read r = tau_mem / dt only
    fires at v > v_threshold                  the largest number below ours, since ours fire at u >= v_threshold

Batch norm is folded into the convolution before it, in float64. Edges that meet are added. So a join of spikes is a Threshold:
OR of the sum at 0.5, AND at 1.5, IAND at 0.5 with the main branch times -1; ADD is the sum itself. A max pool of spikes is a
sum pool and a Threshold at 0.5. A removed shortcut is left out. Attention multiplies by scores of the whole sample, which no
node does.

Axes: T time steps, N batch, C channels, H height, W width; shapes in a graph have neither T nor N.
"""

from __future__ import annotations

import graphlib
import io
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import files, nn, ops
from ..engine import Function, Tensor
from ..errors import UsageError
from ..ops.layout import output_size
from ..types import DType, Path
from .arrays import needed

if TYPE_CHECKING:
    import nir

__all__ = ["to_nir", "from_nir", "save_nir", "load_nir", "Network", "THRESHOLDS"]

THRESHOLDS = ("node", "if")  # how a join of spikes is written
HEAP, HEAP_HEAD, HEAP_OBJECT = b"GCOL", struct.Struct("<4sB3xQ"), struct.Struct("<HHIQ")  # where HDF5 keeps texts
HDF5 = b"\x89HDF\r\n\x1a\n"  # how a file of NIR begins
DENSEST = 1100  # bytes that one byte of a compressed file can hold, at most: deflate's limit is 1032


# ---- out -------------------------------------------------------------------------------------------------------------


class Wire(NamedTuple):
    """What flows from one part of a network to the next."""

    ends: tuple[str, ...]  # the nodes whose outputs, added, it is
    shape: tuple[int, ...]  # of a sample and step
    binary: bool  # whether it can only be 0 or 1


class Writer:
    """A graph while it is written."""

    def __init__(self, size, dt, dtype, thresholds):
        self.nir, self.dt, self.dtype, self.thresholds = needed("nir"), dt, np.dtype(dtype), thresholds
        self.nodes: dict[str, Any] = {"input": self.nir.Input({"input": np.array(size)})}
        self.edges: list[tuple[str, str]] = []

    def add(self, name, node, x, shape, binary=False):
        """A node that reads the wire x; returns its output."""
        name = name or type(node).__name__.lower()
        while name in self.nodes:
            name += "_"
        self.nodes[name] = node
        self.edges += [(end, name) for end in x.ends]
        return Wire((name,), tuple(shape), binary)

    def write(self, name, module, x):
        """The nodes of a module that reads the wire x; returns its output."""
        kind = type(module)
        row = WRITERS.get(kind.__name__) if kind.__module__.startswith("minisnn.") else None
        if row is None:
            raise ValueError(f"NIR has no node for {name or 'this module'}, {article(kind.__name__)}")
        return row(self, name, module, x)

    def finish(self, x):
        """The graph, whose output is the wire x."""
        self.add("output", self.nir.Output({"output": np.array(x.shape)}), x, x.shape)
        for node in self.nodes.values():
            for part in ("weight", "bias"):
                if hasattr(node, part):
                    setattr(node, part, getattr(node, part).astype(self.dtype))
        return self.nir.NIRGraph(self.nodes, self.edges, metadata={"dt": self.dt})


def article(word):
    return f"{'an' if word[0] in 'AEIO' else 'a'} {word}"


def to_nir(net: nn.Module, size: Sequence[int], dt: float = 1e-3, thresholds: str = "node") -> nir.NIRGraph:
    """A network in evaluation mode as a graph of NIR; see the module docstring. ``nir.write(path, graph)`` makes a file of it.

    Args:
        net: a network of ``models.build`` or ``models.fully_connected``; an ``nn.Sequential`` of layers; or what ``from_nir``
            returned.
        size: of the input, (C, H, W) or (features,).
        dt: seconds of a time step. snnTorch and SpikingJelly read files with 1e-4, Norse with 1e-3.
        thresholds: "node": joins and max pools of spikes are Threshold nodes. "if": IF nodes, which do the same where nothing
            stays below the threshold, as for OR and max pool; SpikingJelly's importer knows them, and no Threshold.

    Returns:
        nir.NIRGraph. Its output are the scores of one time step; the network's are their mean.

    Raises:
        ValueError: NIR cannot hold a part of the network, which is named with the reason; or an argument is out of range.
        UsageError: the package nir is missing.
    """
    size = tuple(int(n) for n in size)
    if not np.isfinite(dt) or dt <= 0:
        raise ValueError(f"dt is {dt!r} seconds; give a number above 0, such as 1e-3")
    if thresholds not in THRESHOLDS:
        raise ValueError(f"thresholds is {thresholds!r}; give one of {', '.join(THRESHOLDS)}")
    if not size or min(size) < 1:
        raise ValueError(f"size is {size}; give (C, H, W), or (features,)")
    gates = [name for name, module in net.named_modules() if isinstance(module, nn.Attention)]
    if gates:
        more = f" and {len(gates) - 1} more" if len(gates) > 1 else ""
        raise ValueError(
            f"NIR cannot hold attention (MA, IA), which multiplies by scores of the whole sample: {gates[0]}{more}. A network "
            "of the same plan without it can be exported, such as the model 'or'"
        )
    parameters = net.parameters()
    writer = Writer(size, float(dt), parameters[0].dtype if parameters else "float32", thresholds)
    return writer.finish(writer.write("", net, Wire(("input",), size, False)))


def joined(prefix, name):
    return f"{prefix}.{name}" if prefix else name


def write_resnet(w, prefix, net, x):
    parts = [(name, getattr(net, name)) for name in ("pool_first", "stem", "max_pool", "features")]
    parts += [(f"stages.{k}", stage) for k, stage in enumerate(net.stages)] + [("last_lif", net.last_lif)]
    for name, part in parts:
        if part is not None:
            x = w.write(joined(prefix, name), part, x)
    pool = w.nir.AvgPool2d(np.array(x.shape[1:]), np.array(x.shape[1:]), np.array([0, 0]))
    x = w.add(joined(prefix, "pool"), pool, x, (x.shape[0], 1, 1))
    x = write_flatten(w, joined(prefix, "flatten"), None, x)
    return w.write(joined(prefix, "head"), net.head, x)


def write_layered(w, prefix, net, x):
    return w.write(joined(prefix, "head"), net.head, w.write(joined(prefix, "layers"), net.layers, x))


def write_unit(w, name, unit, x):
    if unit.lif is not None and unit.neurons_first:
        x = w.write(f"{name}.lif", unit.lif, x)
    x = w.write(f"{name}.norm", unit.norm, w.write(f"{name}.conv", unit.conv, x))
    return x if unit.lif is None or unit.neurons_first else w.write(f"{name}.lif", unit.lif, x)


def write_stage(w, name, stage, x):
    main = w.write(f"{name}.main", stage.main, x)
    if stage.shortcut is not None:
        main = write_join(w, f"{name}.join", stage.join.how, main, w.write(f"{name}.shortcut", stage.shortcut, x))
    if stage.lif is not None:
        main = w.write(f"{name}.lif", stage.lif, main)
    return w.write(f"{name}.after", stage.after, main)


def write_join(w, name, how, x, y):
    both = Wire(x.ends + y.ends, x.shape, False)
    if how == "add":
        return both
    if not (x.binary and y.binary):
        raise ValueError(f"NIR holds the join {how} of spikes only: {name} joins numbers")
    if how == "iand":
        minus = w.add(f"{name}.minus", w.nir.Scale(np.full(x.shape, -1.0, w.dtype)), x, x.shape)
        both = Wire(minus.ends + y.ends, x.shape, False)
    return write_threshold(w, name, both, 1.5 if how == "and" else 0.5, how in ("and", "iand"))


def write_threshold(w, name, x, threshold, leaves_rest=False):
    if w.thresholds == "node":
        return w.add(name, w.nir.Threshold(np.full(x.shape, threshold, w.dtype)), x, x.shape, True)
    if leaves_rest:
        raise ValueError(
            f"thresholds 'if' cannot say {name}, an AND or IAND, whose neurons would keep what is below the threshold"
        )
    full = np.full(x.shape, threshold, w.dtype)
    return w.add(name, w.nir.IF(np.full(x.shape, 1 / w.dt), full, np.zeros_like(full)), x, x.shape, True)


def write_sequence(w, prefix, modules, x):
    for name, part in vars(modules).items():
        if isinstance(part, nn.Module):
            x = w.write(joined(prefix, name), part, x)
    return x


def write_conv(w, name, conv, x):
    weight = conv.weight.data.astype(np.float64)
    stride, padding = ((v, v) if np.ndim(v) == 0 else tuple(v) for v in (conv.stride, conv.padding))
    if len(x.shape) != 3 or x.shape[0] != weight.shape[1]:
        raise ValueError(f"{name} reads {weight.shape[1]} channels, but gets {x.shape}; give another size")
    shape = [output_size(n, k, s, p) for n, k, s, p in zip(x.shape[1:], weight.shape[2:], stride, padding)]
    if min(shape) < 1:
        raise ValueError(f"{name}: a kernel of {weight.shape[2:]} does not fit into maps of {x.shape[1:]}; give another size")
    bias = np.zeros(len(weight)) if conv.bias is None else conv.bias.data.astype(np.float64)
    node = w.nir.Conv2d(x.shape[1:], np.ascontiguousarray(weight), tuple(stride), tuple(padding), (1, 1), 1, bias)
    return w.add(name, node, x, (len(weight), *shape))


def write_norm(w, name, norm, x):
    node = w.nodes[x.ends[0]]
    if len(x.ends) > 1 or not hasattr(node, "weight"):
        raise ValueError(f"NIR holds batch norm only as part of the layer before it: {name} does not follow a convolution")
    a = norm.weight.data / np.sqrt(norm.running_var.astype(np.float64) + norm.eps)
    node.weight = node.weight * a.reshape(-1, *(1,) * (node.weight.ndim - 1))
    bias = (node.bias if hasattr(node, "bias") else 0.0) - norm.running_mean.astype(np.float64)
    node.bias = norm.bias.data + a * bias
    return x


def write_linear(w, name, linear, x):
    if len(x.shape) != 1:
        x = write_flatten(w, f"{name}.flatten", None, x)
    if x.shape[0] != linear.weight.shape[1]:
        raise ValueError(f"{name} reads {linear.weight.shape[1]} features, but gets {x.shape[0]}; give another size")
    weight, bias = (p.data.astype(np.float64) for p in (linear.weight, linear.bias))
    return w.add(name, w.nir.Affine(weight, bias), x, bias.shape)


def write_flatten(w, name, _, x):
    if len(x.shape) == 1:
        return x
    # Counted from the end: snnTorch counts the batch among the axes, NIR does not.
    node = w.nir.Flatten({"input": np.array(x.shape)}, -len(x.shape), -1)
    return w.add(name, node, x, (int(np.prod(x.shape)),), x.binary)


def write_pool(w, name, x, kind, kernel, stride, padding):
    stride = kernel if stride is None else stride
    shape = [output_size(n, kernel, stride, padding) for n in x.shape[1:]]
    if min(shape) < 1:
        raise ValueError(f"{name}: a window of {kernel} does not fit into maps of {x.shape[1:]}; give another size")
    node = kind(*(np.array([n, n]) for n in (kernel, stride, padding)))
    return w.add(name, node, x, (x.shape[0], *shape))


def write_max_pool(w, name, pool, x):
    if not x.binary:
        raise ValueError(f"NIR holds a max pool of spikes only: {name} pools numbers")
    added = write_pool(w, f"{name}.sum", x, w.nir.SumPool2d, *pool.window)
    return write_threshold(w, name, added, 0.5)


def write_bins(w, name, pool, x):
    H, W = x.shape[1:]
    if H == W == pool.size:
        return x
    if H % pool.size or W % pool.size:
        raise ValueError(
            f"NIR has no bins of unequal size, into which {name} pools maps of {H}x{W}; pool the input first, and give the "
            f"size {(x.shape[0], pool.size, pool.size)}"
        )
    kernel = np.array([H // pool.size, W // pool.size])
    return w.add(name, w.nir.AvgPool2d(kernel, kernel, np.array([0, 0])), x, (x.shape[0], pool.size, pool.size))


def full(w, x, value):
    """A constant of a node's neurons, in float64: a number, or one for each channel."""
    value = np.asarray(value, np.float64)
    return np.broadcast_to(value.reshape(*value.shape, *(1,) * (len(x.shape) - 1)) if value.ndim else value, x.shape).copy()


def in_seconds(tau, dt):
    """tau * dt, or a neighbor of it that is tau to the bit when it is divided by dt again, if there is one."""
    tau = np.asarray(tau, np.float64)
    best = tau * dt
    for toward in (-np.inf, np.inf):
        near = best
        for _ in range(2):
            near = np.nextafter(near, toward)
            best = np.where((best / dt != tau) & (near / dt == tau), near, best)
    return best


def write_neurons(w, name, neurons, x, kind):
    options = neurons.options
    if options.get("v_reset") is None:
        raise ValueError(f"NIR has no soft reset, which the neurons {name} have; train with v_reset=0.0")
    if options.get("smooth"):
        raise ValueError(f"NIR has no smooth neurons, such as {name}")
    if isinstance(neurons, nn.Synaptic) and options["v_reset"] == 0 and options["decay_input"]:
        options = {**options, "decay_input": False, "v_threshold": np.multiply(options["v_threshold"], options["tau"])}
    threshold = np.asarray(options["v_threshold"], w.dtype)
    below = np.nextafter(threshold, w.dtype.type(-np.inf))  # u >= threshold is u > below
    constants = {"v_threshold": full(w, x, below).astype(w.dtype), "v_reset": full(w, x, options["v_reset"]).astype(w.dtype)}
    tau = neurons.tau if isinstance(neurons, nn.PLIF) else options.get("tau")
    if kind is w.nir.IF:
        return w.add(name, kind(full(w, x, 1 / w.dt), **constants), x, x.shape, True)
    r = full(w, x, 1.0 if options["decay_input"] else tau)
    constants |= {"r": r, "v_leak": constants["v_reset"].copy()}
    time = in_seconds(tau, w.dt)
    if kind is w.nir.LIF:
        return w.add(name, kind(tau=full(w, x, time), **constants), x, x.shape, True)
    more = {"tau_mem": full(w, x, time), "tau_syn": full(w, x, in_seconds(options["tau_syn"], w.dt))}
    return w.add(name, kind(**constants, **more, w_in=full(w, x, options["tau_syn"])), x, x.shape, True)


def write_network(w, prefix, net, x):
    """A graph that was read: its nodes again."""
    if x.shape != net.size:
        raise ValueError(f"the network was read for inputs of {net.size}, not {x.shape}; give that size")
    wires = {net.input: x}
    for name, part in net.parts.items():
        ends = tuple(end for source in net.sources[name] for end in wires[source].ends)
        first = wires[net.sources[name][0]]
        binary = first.binary and len(ends) == 1
        wires[name] = w.write(joined(prefix, name), part, Wire(ends, first.shape, binary))
    out = [wires[source] for source in net.sources[net.output]]
    return Wire(tuple(end for wire in out for end in wire.ends), out[0].shape, False)


def write_scale(w, name, module, x):
    if module.shift is not None:
        raise ValueError(f"NIR has no node that adds a constant alone, as {name} does")
    return write_same(w, name, x, w.nir.Scale(module.scale.copy()))


def write_same(w, name, x, node, binary=False):
    return w.add(name, node, x, x.shape, binary)


WRITERS = {
    "ResNet21": write_resnet,
    "Layered": write_layered,
    "Unit": write_unit,
    "Stage": write_stage,
    "Network": write_network,
    "Sequential": write_sequence,
    "Conv2d": write_conv,
    "BatchNorm2d": write_norm,
    "BatchNorm1d": write_norm,
    "Linear": write_linear,
    "Flatten": write_flatten,
    "Dropout": lambda w, name, module, x: x,  # in evaluation mode it does nothing
    "MaxPool2d": write_max_pool,
    "AvgPool2d": lambda w, name, pool, x: write_pool(w, name, x, w.nir.AvgPool2d, *pool.window),
    "AdaptiveAvgPool2d": write_bins,
    "LIF": lambda w, name, module, x: write_neurons(w, name, module, x, w.nir.LIF),
    "PLIF": lambda w, name, module, x: write_neurons(w, name, module, x, w.nir.LIF),
    "IF": lambda w, name, module, x: write_neurons(w, name, module, x, w.nir.IF),
    "Synaptic": lambda w, name, module, x: write_neurons(w, name, module, x, w.nir.CubaLIF),
    "Threshold": lambda w, name, module, x: write_same(w, name, x, w.nir.Threshold(module.threshold.copy()), True),
    "Scale": write_scale,
    "SumPool2d": lambda w, name, pool, x: write_pool(w, name, x, w.nir.SumPool2d, *pool.window),
    "Reshape": lambda w, name, module, x: write_flatten(w, name, None, x),
}
"""How a module is written, by the name of its class; ``write(writer, name, module, wire)`` returns the wire after it."""


# ---- in --------------------------------------------------------------------------------------------------------------


class Step(Function):
    """1 where x > threshold, else 0; its derivative is 0 wherever it has one."""

    takes_spikes = makes_spikes = stateless = True

    def forward(self, x, threshold):
        self.shape = x.shape
        return x > threshold

    def backward(self, grad):
        return np.zeros(self.shape, self.dtype)


class Threshold(nn.Module):
    """NIR's Threshold: 1 where x is above a threshold. ``threshold``: of a sample's shape."""

    def __init__(self, threshold: np.ndarray) -> None:
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        return Step.apply(x, threshold=self.threshold)


class Scale(nn.Module):
    """NIR's Scale: x times ``scale``, and plus ``shift``; both of a sample's shape."""

    def __init__(self, scale: np.ndarray, shift: np.ndarray | None = None) -> None:
        self.scale, self.shift = scale, shift

    def forward(self, x: Tensor) -> Tensor:
        x = ops.mul(x, Tensor(self.scale))
        return x if self.shift is None else ops.add(x, Tensor(self.shift))


class SumPool2d(nn.Module):
    """NIR's SumPool2d (``ops.sum_pool2d``)."""

    def __init__(self, kernel: int, stride: int, padding: int) -> None:
        self.window = kernel, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return ops.sum_pool2d(x, *self.window)


class Reshape(nn.Module):
    """NIR's Flatten: a sample takes another shape."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(int(n) for n in shape)

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], *self.shape)


class Network(nn.Module):
    """A graph of NIR as a network. ``net(x)``: [T, N, *size] -> the mean of the graph's output over T, [N, ...].

    Attributes:
        size: shape of a sample at one time step.
        dt: seconds of a time step.
        sources: {name of a node: the nodes whose outputs, added, it reads}.
        dtype: of its numbers.
    """

    def __init__(
        self,
        parts: dict[str, nn.Module],
        sources: dict[str, tuple[str, ...]],
        size: tuple[int, ...],
        ends: tuple[str, str],
        dt: float,
        dtype: DType,
    ) -> None:
        self.size, self.dt, self.dtype = size, dt, dtype
        self.input, self.output = ends
        self.sources, self.attributes = sources, dict[str, str]()
        for name, part in parts.items():
            self.attributes[name] = f"{name}_" if hasattr(self, name) else name
            setattr(self, self.attributes[name], part)
        self.name_parts()
        self.eval()

    @property
    def parts(self) -> dict[str, nn.Module]:
        """{name of a node: its module}, in an order in which they can run."""
        return {name: getattr(self, attribute) for name, attribute in self.attributes.items()}

    def forward(self, x: Any) -> Tensor:
        return self.steps(x).mean(0)

    def steps(self, x: Any) -> Tensor:
        """The graph's output at each time step, [T, N, ...], whose mean ``net(x)`` is."""
        x = x if isinstance(x, Tensor) else Tensor(np.asarray(x), dtype=self.dtype)
        if x.ndim < 2 or x.shape[2:] != self.size or 0 in x.shape:
            raise ValueError(f"the network got an input of shape {x.shape}; give [T, N, {', '.join(map(str, self.size))}]")
        parts = self.parts
        values, readers = {self.input: x}, dict.fromkeys((self.input, *parts), 0)  # readers: that still need a value
        for sources in self.sources.values():
            for source in sources:
                readers[source] += 1
        for name in (*parts, self.output):
            total = values[self.sources[name][0]]
            for source in self.sources[name][1:]:
                total = ops.join(total, values[source], "add")
            for source in self.sources[name]:
                readers[source] -= 1
                if not readers[source]:
                    del values[source]
            values[name] = total if name == self.output else parts[name](total)
        return values[self.output]


class Reader:
    """What a graph's nodes are read with."""

    def __init__(self, dt, dtype):
        self.dt, self.dtype = dt, np.dtype(dtype)

    def array(self, name, node, field):
        """A field of numbers, all finite."""
        try:
            array = np.asarray(getattr(node, field), np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"{name}: {field} holds something other than numbers") from None
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: {field} holds NaN or infinity")
        return array

    def constant(self, name, node, field):
        """A constant of neurons: a number, or one for each channel."""
        array = self.array(name, node, field)
        first = array.reshape(array.shape[0], -1)[:, 0] if array.ndim else array
        if array.ndim > 1 and not (array == first.reshape(-1, *(1,) * (array.ndim - 1))).all():
            raise ValueError(f"{name}: {field} differs from neuron to neuron of a channel; the neurons here share it")
        return float(first.flat[0]) if (first == first.flat[0]).all() else first

    def steps(self, name, node, field):
        """A time constant in time steps."""
        found = self.constant(name, node, field)
        tau = np.asarray(found) / self.dt
        if np.asarray(getattr(node, field)).dtype == np.float32:  # then 2.0 may have come out as 2.00000003
            tau = np.vectorize(lambda t: float(f"{t:.7g}"))(tau)
        if (tau < 1).any():
            raise ValueError(
                f"{name}: {field} is {np.min(found):g} s, {np.min(tau):g} steps of dt = {self.dt:g} s, but it takes 1 or more; "
                "give the dt that the graph was written for, such as 1e-4"
            )
        return float(tau) if tau.ndim == 0 else tau


def pair(value: Any) -> tuple[int, int]:
    """A number for both axes, or one for each."""
    first, second = np.broadcast_to(np.asarray(value), 2)
    return int(first), int(second)


def read_conv(r, name, node):
    weight, bias = r.array(name, node, "weight"), r.array(name, node, "bias")
    kernel = weight.shape[2:]
    if isinstance(node.padding, (str, bytes)):
        same = node.padding in ("same", b"same")
        if same and (any(k % 2 == 0 for k in kernel) or np.any(np.asarray(node.stride) != 1)):
            raise ValueError(f"{name}: padding 'same' of kernel {kernel} and stride {node.stride}; give it as numbers")
        padding: Any = tuple(k // 2 for k in kernel) if same else (0, 0)
    else:
        padding = node.padding
    stride, padding, dilation = map(pair, (node.stride, padding, node.dilation))
    if int(np.asarray(node.groups)) != 1 or dilation != (1, 1):
        raise ValueError(f"{name}: a convolution of {node.groups} groups and dilation {dilation}; only 1 and 1 can be read")
    if weight.ndim != 4 or bias.shape != weight.shape[:1] or 0 in weight.shape:
        raise ValueError(
            f"{name}: weight {weight.shape} and bias {bias.shape}; a convolution has [Cout, Cin, kh, kw] and [Cout]"
        )
    conv = nn.Conv2d(1, 1, 1, stride, padding, bias=True, dtype=r.dtype)
    memory = np.ascontiguousarray(weight.astype(r.dtype).transpose(2, 3, 1, 0))  # as nn.Conv2d keeps it
    conv.weight, conv.bias = nn.Parameter(memory.transpose(3, 2, 0, 1)), nn.Parameter(bias.astype(r.dtype))
    return conv


def read_linear(r, name, node):
    weight = r.array(name, node, "weight")
    bias = r.array(name, node, "bias") if hasattr(node, "bias") else np.zeros(weight.shape[0])
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or 0 in weight.shape:
        raise ValueError(f"{name}: weight {weight.shape} and bias {bias.shape}; a linear layer has [out, in] and [out]")
    linear = nn.Linear(1, 1, dtype=r.dtype)
    linear.weight, linear.bias = nn.Parameter(weight.astype(r.dtype)), nn.Parameter(bias.astype(r.dtype))
    return linear


def read_window(r, name, node):
    kernel, stride, padding = (np.broadcast_to(r.array(name, node, f), 2) for f in ("kernel_size", "stride", "padding"))
    whole = [tuple(int(n) for n in v) for v in (kernel, stride, padding)]
    H, W = (int(n) for n in node.input_type["input"][1:])
    if isinstance_of(node, "AvgPool2d") and whole[0] == (H, W) and whole[2] == (0, 0):
        return nn.AdaptiveAvgPool2d(1)
    if any(a != b for a, b in whole):
        raise ValueError(f"{name}: a pool of {whole[0]}, stride {whole[1]}, padding {whole[2]}; only square ones can be read")
    return (nn.AvgPool2d if isinstance_of(node, "AvgPool2d") else SumPool2d)(*(pair[0] for pair in whole))


def close(a, b):
    """Whether a constant is one that our neurons have, up to the rounding of float32."""
    return bool(np.allclose(a, b, rtol=1e-6, atol=1e-12))


def isinstance_of(node, name):
    return type(node).__name__ == name


def read_neurons(r, name, node):
    """LIF, IF or CubaLIF, with what has to be done to its input first."""
    kind = type(node).__name__
    above = np.nextafter(np.asarray(r.constant(name, node, "v_threshold"), r.dtype), r.dtype.type(np.inf))
    threshold: Any = above.astype(np.float64)
    threshold = float(threshold) if threshold.ndim == 0 else threshold
    reset = r.constant(name, node, "v_reset")
    if not isinstance(reset, float):
        raise ValueError(f"{name}: v_reset differs from neuron to neuron; the neurons here share it")
    gain = r.array(name, node, "r")
    options: dict[str, Any] = dict(v_threshold=threshold, v_reset=reset)
    if kind == "IF":
        return scaled(r, gain * r.dt, 0.0, nn.IF(**options))
    options["tau"] = r.steps(name, node, "tau" if kind == "LIF" else "tau_mem")
    shift = r.array(name, node, "v_leak") - reset
    tau = np.asarray(options["tau"])
    whole = close(gain, tau.reshape(-1, *(1,) * (gain.ndim - 1)) if tau.ndim else tau)
    options["decay_input"] = not whole or close(gain, 1)
    gain = np.ones_like(gain) if whole else gain
    if kind == "LIF":
        return scaled(r, gain, shift, nn.LIF(**options))
    options["tau_syn"] = r.steps(name, node, "tau_syn")
    for field in ("tau", "tau_syn", "v_threshold"):
        if not isinstance(options[field], float):
            raise ValueError(
                f"{name}: the constants of its neurons differ from channel to channel; those of CubaLIF share them"
            )
    if not close(shift, 0):
        raise ValueError(f"{name}: v_leak is not v_reset; neurons with a synapse decay to v_reset here")
    return scaled(r, gain * r.array(name, node, "w_in") / options["tau_syn"], 0.0, nn.Synaptic(**options))


def scaled(r, scale, shift, neurons):
    """Neurons whose input is scaled and shifted first, if it has to be."""
    if close(scale, 1) and close(shift, 0):
        return neurons
    scale, shift = np.broadcast_arrays(np.asarray(scale, r.dtype), np.asarray(shift, r.dtype))
    return nn.Sequential(Scale(scale.copy(), shift.copy() if np.any(shift) else None), neurons)


READERS = {
    "Affine": read_linear,
    "Linear": read_linear,
    "Conv2d": read_conv,
    "LIF": read_neurons,
    "IF": read_neurons,
    "CubaLIF": read_neurons,
    "Threshold": lambda r, name, node: Threshold(r.array(name, node, "threshold").astype(r.dtype)),
    "Scale": lambda r, name, node: Scale(r.array(name, node, "scale").astype(r.dtype)),
    "SumPool2d": read_window,
    "AvgPool2d": read_window,
    "Flatten": lambda r, name, node: Reshape(node.output_type["output"]),
}
"""How a node is read, by the name of its class; ``read(reader, name, node)`` returns a module."""


def from_nir(graph: nir.NIRGraph, dt: float | None = None, dtype: str | None = None) -> Network:
    """A graph of NIR as a network, in evaluation mode, which evaluates, counts spikes and energy, and streams.

    Args:
        graph: of the nodes Input, Output, Conv2d, Affine, Linear, LIF, IF, CubaLIF, Threshold, Scale, SumPool2d, AvgPool2d and
            Flatten, without cycles; edges that meet are added. The neurons of a channel share their constants.
        dt: seconds of a time step; by default what ``to_nir`` noted, else 1e-3. snnTorch and SpikingJelly write for 1e-4.
        dtype: "float32" or "float64"; by default that of its weights.

    Returns:
        Network: [T, N, *size] -> [N, ...], the mean of the output over T.

    Raises:
        ValueError: names the node that cannot be read, with the reason.
    """
    nodes = dict(graph.nodes)
    noted = graph.metadata.get("dt") if isinstance(graph.metadata, dict) else None
    dt = float(1e-3 if noted is None else noted) if dt is None else float(dt)
    if not np.isfinite(dt) or dt <= 0:
        raise ValueError(f"dt is {dt!r} seconds; give a number above 0, such as 1e-3")
    ends = []
    for kind in ("Input", "Output"):
        found = [name for name, node in nodes.items() if isinstance_of(node, kind)]
        if len(found) != 1:
            raise ValueError(f"the graph has {len(found)} nodes {kind}; only a graph of one can be read")
        ends += found
    for name, node in nodes.items():
        if type(node).__name__ not in READERS and name not in ends:
            known = ", ".join(READERS)
            raise ValueError(
                f"{name} is {article(type(node).__name__)}, which cannot be read here; the nodes that can: {known}"
            )
    sources: dict[str, tuple[str, ...]] = dict.fromkeys(nodes, ())
    for source, target in graph.edges:
        if source not in nodes or target not in nodes:
            raise ValueError(f"an edge leads from {source} to {target}, of which the graph lacks one")
        sources[target] += (source,)
    try:
        order = [*graphlib.TopologicalSorter(sources).static_order()]
    except graphlib.CycleError as error:
        raise ValueError(
            f"the graph goes in circles, over {error.args[1][0]}; recurrent networks cannot be read here"
        ) from None
    if idle := [name for name in nodes if not sources[name] and name != ends[0]]:
        raise ValueError(f"nothing leads to {idle[0]}")
    if dtype is None:
        wide = any(
            np.asarray(getattr(node, "weight", 0.0)).dtype == np.float64 for node in nodes.values() if hasattr(node, "weight")
        )
        dtype = "float64" if wide else "float32"
    reader = Reader(dt, dtype)
    parts = {name: READERS[type(nodes[name]).__name__](reader, name, nodes[name]) for name in order if name not in ends}
    size = tuple(int(n) for n in nodes[ends[0]].input_type["input"])
    return Network(parts, sources, size, (ends[0], ends[1]), dt, dtype)


# ---- files -----------------------------------------------------------------------------------------------------------


def save_nir(net: nn.Module, path: Path, size: Sequence[int], dt: float = 1e-3, thresholds: str = "node") -> None:
    """Write a network as a file of NIR (HDF5); the arguments and errors are those of ``to_nir``. The file is replaced in one
    go. Raises OSError if it cannot be written; the old one is then untouched.
    """
    graph, content = to_nir(net, size, dt, thresholds), io.BytesIO()
    needed("nir").write(content, graph)
    with files.replace(path) as file:
        file.write(content.getbuffer())


def check_heaps(content):
    """Raise ValueError if an object of a heap of texts takes no room, or more than its heap has: HDF5 walks from object to
    object, and would never end.
    """
    at = content.find(HEAP)
    while 0 <= at <= len(content) - HEAP_HEAD.size:
        _, version, size = HEAP_HEAD.unpack_from(content, at)
        place, end = at + HEAP_HEAD.size, at + size
        if at % 8 == 0 and version == 1 and end <= len(content):
            while place + HEAP_OBJECT.size <= end:
                number, _, _, size = HEAP_OBJECT.unpack_from(content, place)
                taken = HEAP_OBJECT.size + -(-size // 8) * 8 if number else size  # of the free rest, number 0, all of it
                if not 0 < taken <= end - place:
                    raise ValueError(f"the heap at byte {at} has an object of {taken:,} bytes")
                place += taken
        at = content.find(HEAP, at + 1)


def check_claims(content):
    """Raise ValueError if the arrays of an HDF5 file claim more than can be in it: a damaged one may ask for terabytes."""
    claimed = 0

    def add(name, item):
        nonlocal claimed
        claimed += getattr(item, "nbytes", 0)
        if claimed > DENSEST * len(content):
            raise ValueError(f"{name} claims {item.nbytes:,} bytes in a file of {len(content):,}")

    with needed("h5py").File(io.BytesIO(content), "r") as file:
        file.visititems(add)


def load_nir(path: Path, dt: float | None = None, dtype: str | None = None) -> Network:
    """The network in a file of NIR; the arguments are those of ``from_nir``.

    Raises:
        UsageError: names the file, and what is wrong with it.
    """
    nir = needed("nir")
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}); check the path and its permissions") from None
    if not content.startswith(HDF5):
        raise UsageError(f"{path} is not a file of NIR, which is HDF5; write one with nir.write(path, graph)")
    try:
        check_heaps(content)
        check_claims(content)
        graph = nir.read(io.BytesIO(content))
        if not isinstance_of(graph, "NIRGraph"):
            raise ValueError("it holds no graph")
    except Exception as error:  # of h5py or nir, wherever a damaged byte leads
        raise UsageError(f"{path} is not a file of NIR, or is damaged ({files.first_line(error)}); write it again") from None
    try:
        return from_nir(graph, dt, dtype)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None

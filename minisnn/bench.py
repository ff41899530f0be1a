"""How long things take on this machine, as ratios measured side by side.

    conv   3x3 convolution of spikes at the four shapes of the network: events against the dense path, over densities
    lif    the neurons, forward and backward, per neuron-step
    step   a whole training step and an inference, operation by operation, with the peak memory
    rate   the training step against the firing rate of the network

If PyTorch can be imported (by this Python, or by the one that --peer names), its convolution is timed alternately with ours, in
a process of its own: two pools of threads in one process slow each other down.
"""

from __future__ import annotations

import collections
import json
import statistics
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import ledger, memory, models, ops, optim, threads
from .engine import Tensor, no_grad
from .ops import dense_conv, event_conv, fused, spikes
from .ops.cost import events_pay_backward, events_pay_forward
from .ops.layout import Window
from .surrogate import ATan

__all__ = ["Peer", "bench_conv", "bench_lif", "bench_step", "bench_rate", "geometric_mean"]

SHAPES = ((64, 28), (128, 14), (256, 7), (512, 4))  # channels and side of the map, in the features and the three stages
DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
IMAGES = 128  # T * N

# Runs in the other process: reads a shape per line, writes the seconds of each pass in the faster of two memory layouts.
PEER = """
import json, statistics, sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
back = torch.ops.aten.convolution_backward
for line in sys.stdin:
    images, c, h, density, repeat = json.loads(line)
    best = {}
    for layout in (torch.contiguous_format, torch.channels_last):
        x = (torch.rand(images, c, h, h) < density).float().to(memory_format=layout)
        w = torch.randn(c, c, 3, 3).to(memory_format=layout)
        dy = torch.randn(images, c, h, h).to(memory_format=layout)
        passes = dict(forward=lambda: torch.conv2d(x, w, padding=1), **{
            name: lambda mask=mask: back(dy, x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask)
            for name, mask in (("input_gradient", [True, False, False]), ("weight_gradient", [False, True, False]))})
        with torch.no_grad():
            for name, call in passes.items():
                times = []
                for _ in range(repeat + 1):
                    t = time.perf_counter(); call(); times.append(time.perf_counter() - t)
                best[name] = min(best.get(name, 1e9), statistics.median(times[1:]))
    print(json.dumps(best), flush=True)
"""


class Peer:
    """PyTorch's convolution in a process of its own; ``times`` is None if there is no PyTorch."""

    def __init__(self, python: str) -> None:
        self.process: Any = None
        has_torch = subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode == 0
        if has_torch:
            self.process = subprocess.Popen(
                [python, "-c", PEER, str(threads.get_num_threads())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )

    def times(self, *shape: float) -> dict[str, float] | None:
        """Seconds of forward, input gradient and weight gradient."""
        if self.process is None:
            return None
        self.process.stdin.write(json.dumps(shape) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()


def median_seconds(call, repeat):
    """The median of ``repeat`` calls, after one that is not counted."""
    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def paired_seconds(calls, repeat):
    """The median of each call, taken in turn, so that a machine that slows down slows them all."""
    times: list[list[float]] = []
    for _ in range(repeat + 1):
        times.append([])
        for call in calls:
            start = time.perf_counter()
            call()
            times[-1].append(time.perf_counter() - start)
    return np.median(times[1:], 0).tolist()


def bench_conv(
    repeat: int = 7, peer: Peer | None = None, densities: Sequence[float] = DENSITIES, seed: int = 0
) -> list[dict[str, Any]]:
    """Seconds of each pass of a 3x3 convolution of spikes, by shape and density.

    Args:
        repeat: counted runs of each; the median is taken.
        peer: a ``Peer``, or None.
        densities: shares of the inputs that fire.
        seed: of spikes and weights.

    Returns:
        A list of dicts: channels, size, density, auto_forward and auto_weight_gradient (what "auto" chooses), the seconds of
        event_forward (including finding the events), dense_forward, event_weight_gradient, dense_weight_gradient and
        dense_input_gradient, and PyTorch's forward, input_gradient and weight_gradient under "torch" (None without it).
    """
    rng, rows = np.random.default_rng(seed), []
    for c, h in SHAPES:
        w = rng.standard_normal((3, 3, c, c)).astype(np.float32)
        zero, window = np.zeros(c, np.float32), Window(kh=3, kw=3, stride_h=1, stride_w=1, pad_h=1, pad_w=1)
        dy = rng.standard_normal((IMAGES, h, h, c)).astype(np.float32)
        y, dw, dx = np.empty_like(dy), np.empty_like(w), np.empty_like(dy)
        for density in densities:
            x = (rng.random((IMAGES, h, h, c)) < density).astype(np.uint8)
            numbers, events = x.astype(np.float32), spikes.find_events(x)
            size = events.spikes, x.shape, c, window
            row: dict[str, Any] = dict(
                channels=c,
                size=h,
                density=density,
                auto_forward="event" if events_pay_forward(*size, w.dtype) else "dense",
                auto_weight_gradient="event" if events_pay_backward(*size) else "dense",
            )
            row["event_forward"] = median_seconds(
                lambda: event_conv.event_forward(y, spikes.find_events(x), w, zero, window), repeat
            )
            row["torch"] = peer.times(IMAGES, c, h, density, repeat) if peer else None
            row["dense_forward"] = median_seconds(lambda: dense_conv.dense_forward(y, numbers, w, zero, window), repeat)
            row["event_weight_gradient"] = median_seconds(
                lambda: event_conv.event_weight_gradient(dw, dy, events, window), repeat
            )
            row["dense_weight_gradient"] = median_seconds(
                lambda: dense_conv.dense_weight_gradient(dw, numbers, dy, window), repeat
            )
            row["dense_input_gradient"] = median_seconds(lambda: dense_conv.dense_input_gradient(dx, dy, w, window), repeat)
            rows.append(row)
    return rows


def bench_lif(repeat: int = 7, seed: int = 0) -> dict[str, float]:
    """Seconds of the neurons, forward and backward, on 16 steps of 8 samples of 64 channels of 28x28.

    Returns:
        dict: neuron_steps, forward, backward (``ops.lif``), fused_forward, fused_backward (with batch norm).
    """
    rng = np.random.default_rng(seed)
    x = Tensor(np.moveaxis(rng.standard_normal((16, 8, 28, 28, 64)).astype(np.float32), -1, 2), requires_grad=True)
    weight, bias = (Tensor(np.full(64, v, np.float32), requires_grad=True) for v in (1.0, 0.0))
    grad = np.moveaxis(rng.standard_normal((16, 8, 28, 28, 64)).astype(np.float32), -1, 2)
    running = np.zeros(64, np.float32), np.ones(64, np.float32)
    calls = {"": lambda: ops.lif(x), "fused_": lambda: ops.norm_fire(x, weight, bias, *running, ops.neuron(x.dtype), ATan())}
    row: dict[str, float] = dict(neuron_steps=x.size)
    for name, call in calls.items():
        forward, backward = [], []
        for _ in range(repeat + 1):
            start = time.perf_counter()
            fired = call()
            middle = time.perf_counter()
            fired.backward(grad)
            backward.append(time.perf_counter() - middle)
            forward.append(middle - start)
            x.grad = None
        row[name + "forward"], row[name + "backward"] = statistics.median(forward[1:]), statistics.median(backward[1:])
    return row


class Stopwatch:
    """Seconds spent in each of the loops that a step calls, by temporarily replacing them with timed ones."""

    LOOPS = (
        (dense_conv, ("dense_forward", "dense_input_gradient", "dense_weight_gradient")),
        (spikes, ("find_events",)),
        (event_conv, ("event_forward", "event_weight_gradient")),
        (
            fused,
            (
                "mean_and_variance",
                "norm_pool_forward",
                "attention_scores",
                "norm_fire_forward",
                "norm_fire_backward",
                "norm_attention_backward",
                "batch_norm_backward",
            ),
        ),
    )

    def __init__(self):
        self.seconds: dict[str, float] = collections.defaultdict(float)

    def __enter__(self):
        self.plain = [(module, name, getattr(module, name)) for module, names in self.LOOPS for name in names]
        for module, name, loop in self.plain:
            setattr(module, name, self.timed(name, loop))
        return self

    def __exit__(self, *error):
        for module, name, loop in self.plain:
            setattr(module, name, loop)

    def timed(self, name, loop):
        def call(*arguments, **options):
            start = time.perf_counter()
            try:
                return loop(*arguments, **options)
            finally:
                self.seconds[name] += time.perf_counter() - start

        return call


def digits_like(timesteps, batch_size, size, seed):
    """Still images that look roughly like digits, repeated T times: [T, N, 1, size, size], and labels."""
    rng = np.random.default_rng(seed)
    at = (np.arange(size) - size / 2) / (size / 4)
    strokes = rng.normal(0, 0.6, (batch_size, 6, 2))
    image = np.exp(
        -(
            (at[None, None, :, None] - strokes[:, :, 0, None, None]) ** 2
            + (at[None, None, None, :] - strokes[:, :, 1, None, None]) ** 2
        )
        * 8
    ).max(1)
    x = np.repeat(np.where(image > 0.2, image, 0)[None, :, None].astype(np.float32), timesteps, 0)
    return Tensor(x), ops.one_hot(rng.integers(0, 10, batch_size), 10)


def bench_step(
    width: int = 64,
    timesteps: int = 16,
    batch_size: int = 8,
    model: str = "syna-t",
    repeat: int = 5,
    seed: int = 0,
    x: Tensor | None = None,
    y: np.ndarray | None = None,
) -> dict[str, Any]:
    """A training step (forward, backward, Adam) and an inference of a network with initial weights on 28x28 images.

    Returns:
        dict: seconds of forward, backward, optimizer, step, inference, counting (an inference that
        counts spikes and operations); operations (seconds by loop within a step); peak_mb of
        this process so far; firing_rate; losses of the steps.
    """
    net = models.build("mnist", width=width, timesteps=timesteps, seed=seed, **models.SYSTEMS[model])
    if x is None:
        x, y = digits_like(timesteps, batch_size, 28, seed)
    optimizer, parts, losses = optim.Adam(net.parameters(), 1e-3), [], []
    with Stopwatch() as watch:
        for k in range(repeat + 2):
            if k == 2:
                watch.seconds.clear()
            times = [time.perf_counter()]
            loss = ops.mse_loss(net(x), y)
            times.append(time.perf_counter())
            optimizer.zero_grad()
            loss.backward()
            times.append(time.perf_counter())
            optimizer.step()
            times.append(time.perf_counter())
            losses.append(loss.item())
            parts.append(np.diff(times))
    forward, backward, update = np.median(parts[2:], 0)
    peak = memory.peak_megabytes()
    rate = firing_rate(net, x)
    net.eval()
    with no_grad():
        inference, counting = paired_seconds((lambda: net(x), lambda: counted(net, x)), repeat)
    return dict(
        model=model,
        width=width,
        timesteps=timesteps,
        batch_size=batch_size,
        forward=forward,
        backward=backward,
        optimizer=update,
        step=float(np.median(np.sum(parts[2:], 1))),
        inference=inference,
        counting=counting,
        peak_mb=peak,
        firing_rate=rate,
        losses=losses,
        operations={name: s / repeat for name, s in sorted(watch.seconds.items(), key=lambda item: -item[1])},
    )


def counted(net, x):
    """The ledger's entries for one call."""
    with ledger.ledger() as entries:
        net(x)
    return entries


def firing_rate(net, x):
    """Spikes per neuron per step in the network's current mode, without changing anything."""
    state = net.state_dict()
    with no_grad():
        entries = counted(net, x)
    net.load_state_dict(state)
    return ledger.firing_rate(entries)


def bench_rate(
    width: int = 64,
    timesteps: int = 16,
    batch_size: int = 8,
    biases: Sequence[float] = (-0.6, -0.2, 0.2, 0.5, 0.8, 1.1, 1.5),
    repeat: int = 3,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The training step of the OR network against its firing rate, which the bias of every batch norm sets.

    Returns:
        A list of dicts: firing_rate (spikes per neuron per step), step (seconds), events (seconds in the event-driven loops).
    """
    x, y = digits_like(timesteps, batch_size, 28, seed)
    rows = []
    for bias in biases:
        net = models.build("mnist", width=width, timesteps=timesteps, seed=seed)
        for name, p in net.named_parameters():
            if name.endswith("norm.bias"):
                p.data[...] = bias
        for module in net.modules():
            if hasattr(module, "method"):
                module.method = "event" if module is not net.stem.conv else "dense"
        rate, times = firing_rate(net, x), []
        with Stopwatch() as watch:
            for _ in range(repeat + 1):
                start = time.perf_counter()
                net.zero_grad()
                ops.mse_loss(net(x), y).backward()
                times.append(time.perf_counter() - start)
        events = sum(watch.seconds[name] for name in ("find_events", "event_forward", "event_weight_gradient")) / (repeat + 1)
        rows.append(dict(bias=bias, firing_rate=rate, step=statistics.median(times[1:]), events=events))
    return rows


def geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))

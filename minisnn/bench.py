"""How long things take on this machine, as ratios measured side by side.

    conv   3x3 convolution of spikes at the four shapes of the network: events against the dense path, over densities
    lif    the neurons, forward and backward, per neuron-step
    step   a whole training step and an inference, operation by operation, with the peak memory
    rate   the training step against the firing rate of the network
    sizes  training step and inference at the sizes that people train at, against SpikingJelly, on one and on all threads
    race   time to 97 % test accuracy on digits, against SpikingJelly, with the same batches from the same weights
    busy   the training step at those sizes, alone and beside a program that keeps a core busy
    small  training of networks without maps, and stream, the latency of a frame: see contests.py

If PyTorch (for sizes and race, SpikingJelly) can be imported by this Python, or by the one that --peer names, it is timed in
turn with ours, in a process of its own (peer.py).
"""

from __future__ import annotations

import collections
import functools
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import data, ledger, memory, models, ops, optim, threads, train
from .catalogue import CATALOGUE
from .data import Loader
from .engine import Tensor, no_grad
from .ops import dense_conv, event_conv, fused, spikes
from .ops.cost import events_pay_backward, events_pay_forward
from .ops.layout import Window
from .peer import Peer
from .surrogate import ATan

__all__ = [
    "GOAL",
    "SIZES",
    "bench_busy",
    "bench_conv",
    "bench_lif",
    "bench_race",
    "bench_rate",
    "bench_sizes",
    "bench_step",
    "geometric_mean",
    "slowest_in_ratio",
]

SHAPES = ((64, 28), (128, 14), (256, 7), (512, 4))  # channels and side of the map, in the features and the three stages
DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
IMAGES = 128  # T * N


class Size(NamedTuple):
    """A network and a batch that people train with."""

    preset: str
    width: int
    timesteps: int
    batch_size: int
    gain: float = 1.0  # initial weight of the batch norms


SIZES = {
    "digits": Size("digits", 16, 4, 32, 1.7),
    "mnist": Size("mnist", 16, 4, 32, 1.7),
    "nmnist": Size("nmnist", 16, 10, 16),
    "mnist-32": Size("mnist", 32, 8, 16),
    "full": Size("mnist", 64, 16, 8),
}
MODES = ("training", "inference")
CLASSES = CATALOGUE["digits"].stem.classes
GOAL = 0.97  # test accuracy at which a race ends
PAUSE = 0.02  # seconds between the two sides, in which idle threads go to sleep
ROUNDS = 3  # of alone and beside a busy process
BEGINNING = 0.3  # seconds until that process is busy


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
    if peer:
        peer.ask("threads", count=threads.get_num_threads())
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
            row["torch"] = peer.ask("conv", images=IMAGES, channels=c, size=h, density=density, repeat=repeat) if peer else None
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
    size: Size | None = None,
) -> dict[str, Any]:
    """A training step (forward, backward, Adam) and an inference of a network with initial weights on 28x28 images; with
    ``size``, at that one instead.

    Returns:
        dict: seconds of forward, backward, optimizer, step, inference, counting (an inference that
        counts spikes and operations); operations (seconds by loop within a step); peak_mb of
        this process so far; firing_rate; losses of the steps.
    """
    size = size or Size("mnist", width, timesteps, batch_size)
    net = own_network(size, seed, model)
    if x is None:
        x, y = input_of(size, seed)
    optimizer, parts, losses, loops = optim.Adam(net.parameters(), 1e-3), [], [], []
    with Stopwatch() as watch:
        for _ in range(repeat + 2):
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
            loops.append(dict(watch.seconds))
    forward, backward, update = np.median(parts[2:], 0)
    operations = {name: statistics.median(seconds.get(name, 0.0) for seconds in loops[2:]) for name in loops[-1]}
    peak = memory.peak_megabytes()
    rate = firing_rate(net, x)
    net.eval()
    with no_grad():
        inference, counting = paired_seconds((lambda: net(x), lambda: counted(net, x)), repeat)
    return dict(
        model=model,
        preset=size.preset,
        width=size.width,
        timesteps=size.timesteps,
        batch_size=size.batch_size,
        forward=forward,
        backward=backward,
        optimizer=update,
        step=float(np.median(np.sum(parts[2:], 1))),
        inference=inference,
        counting=counting,
        peak_mb=peak,
        firing_rate=rate,
        losses=losses,
        operations=dict(sorted(operations.items(), key=lambda item: -item[1])),
    )


def set_bias(net, bias):
    """Give all batch norms of a network this bias, which sets how often its neurons fire."""
    for name, p in net.named_parameters():
        if name.endswith("norm.bias"):
            p.data[...] = bias


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
        set_bias(net, bias)
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


# ---- against the peer ------------------------------------------------------------------------------------------------


def own_network(size, seed, model="syna-t"):
    """A network of a size, with its initial weights."""
    net = models.build(size.preset, width=size.width, timesteps=size.timesteps, seed=seed, **models.SYSTEMS[model])
    train.set_gain(net, size.gain)
    return net


def peer_network(peer, folder, net, lr):
    """The same network, SynA-T or OR, with the same weights, on the other side."""
    stem, config = CATALOGUE[net.config.preset].stem, net.config
    plan = dict(channels=stem.channels, classes=stem.classes, width=config.width, timesteps=config.timesteps)
    plan["attention"] = config.attention is not None
    path = folder / "weights.npz"
    np.savez(path, allow_pickle=False, **{f"p{k:04d}": p.data for k, p in enumerate(net.parameters())})
    peer.ask("build", plan=plan, weights=str(path), lr=lr)


def batch_file(path, x, y):
    np.savez(path, allow_pickle=False, x=x, y=y)
    return str(path)


def input_of(size, seed):
    """(x, y): still images for a stem of one channel, spikes at 6 % for the two polarities of an event camera."""
    stem = CATALOGUE[size.preset].stem
    if stem.channels == 1:
        return digits_like(size.timesteps, size.batch_size, stem.size, seed)
    rng = np.random.default_rng(seed)
    x = rng.random((size.timesteps, size.batch_size, stem.channels, stem.size, stem.size)) < 0.06
    return Tensor(x.astype(np.float32)), ops.one_hot(rng.integers(0, stem.classes, size.batch_size), stem.classes)


def bench_sizes(
    repeat: int = 7,
    peer: Peer | None = None,
    sizes: Sequence[str] = tuple(SIZES),
    seed: int = 0,
    say: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
    """Seconds of a training step and of an inference of SynA-T, from the same weights on both sides, in turn.

    Args:
        repeat: counted runs of each; medians are taken.
        peer: a ``Peer`` that needed SpikingJelly, or None.
        sizes: names of ``SIZES``.
        seed: of weights and input.
        say: called with each row.

    Returns:
        A list of dicts: size, mode (``MODES``), threads, seconds, peer_seconds and ratio, the median of
        peer_seconds / seconds over the pairs (both None without a peer).

    Raises:
        RuntimeError: the loss of the first step is not that of the other side, so the two networks are not the same.
    """
    rows, every = [], threads.get_num_threads()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for name in sizes:
            size = SIZES[name]
            (x, y), net = input_of(size, seed), own_network(size, seed)
            optimizer = optim.Adam(net.parameters(), 1e-3)
            if peer:
                peer_network(peer, folder, net, 1e-3)
                peer.ask("give", path=batch_file(folder / "batch.npz", x.data, y))
            for count in sorted({1, every}):
                for mode in MODES:
                    # both sides have the weights as given until they have learned: after that the smallest rounding grows
                    times = times_in_turn(net, optimizer, x, y, mode, count, repeat, peer, given=count == 1)
                    row = dict(size=name, mode=mode, threads=count, seconds=float(np.median(times[:, 0])))
                    both = times.shape[1] == 2
                    row["peer_seconds"] = float(np.median(times[:, 1])) if both else None
                    row["ratio"] = float(np.median(times[:, 1] / times[:, 0])) if both else None
                    rows.append(row)
                    say(row)
    return rows


def bench_busy(
    repeat: int = 7,
    sizes: Sequence[str] = tuple(SIZES),
    seed: int = 0,
    say: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
    """Seconds of a training step of SynA-T on all threads, alone and beside a process that keeps one core busy, in turn.

    Args:
        repeat: counted steps of each; medians are taken.
        sizes: names of ``SIZES``.
        seed: of weights and input.
        say: called with each row.

    Returns:
        A list of dicts: size, idle and busy (seconds), ratio (busy / idle). Where as many threads as cores share them with the
        process fairly, the ratio is (cores + 1) / cores.
    """
    rows = []
    for name in sizes:
        size = SIZES[name]
        (x, y), net = input_of(size, seed), own_network(size, seed)
        step = functools.partial(learn, net, optim.Adam(net.parameters(), 1e-3), x, y)
        idle, busy = [], []
        for _ in range(ROUNDS):
            idle.append(median_seconds(step, repeat))
            with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
                try:
                    time.sleep(BEGINNING)
                    busy.append(median_seconds(step, repeat))
                finally:
                    other.kill()
        row = dict(size=name, idle=statistics.median(idle), busy=statistics.median(busy))
        rows.append(row | dict(ratio=row["busy"] / row["idle"]))
        say(rows[-1])
    return rows


def times_in_turn(net, optimizer, x, y, mode, count, repeat, peer, given):
    """[repeat, 1 or 2]: seconds of ours, and of the peer's right after. With the weights as ``given`` the losses agree."""
    every = threads.get_num_threads()
    times: list[list[float]] = []
    threads.set_num_threads(count)
    try:
        if peer:
            peer.ask("threads", count=count)
        net.train(mode == "training")
        for _ in range(repeat + 1):
            start, loss = time.perf_counter(), None
            if mode == "training":
                loss = learn(net, optimizer, x, y)
            else:
                with no_grad():
                    net(x)
            own = [time.perf_counter() - start]
            time.sleep(PAUSE)
            if peer:
                found = peer.ask("step", mode=mode)
                own.append(found["seconds"])
                if given and loss is not None and not times and not np.isclose(loss, found["loss"], rtol=0.05):
                    raise RuntimeError(f"the loss is {loss:.4g} here and {found['loss']:.4g} there: the networks differ")
                time.sleep(PAUSE)
            times.append(own)
    finally:
        threads.set_num_threads(every)
    return np.array(times[1:])


def learn(net, optimizer, x, y, loss_of=ops.mse_loss):
    """A training step; returns the loss."""
    loss = loss_of(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def slowest_in_ratio(rows: Sequence[dict[str, Any]], mode: str) -> float | None:
    """The smallest lead of a mode on all threads; None without a peer."""
    ratios = [row["ratio"] for row in rows if row["mode"] == mode and row["threads"] == max(r["threads"] for r in rows)]
    return min(ratios) if ratios and None not in ratios else None


def bench_race(
    peer: Peer | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    goal: float = GOAL,
    epochs: int | None = None,
    say: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
    """Seconds of training until SynA-T reaches an accuracy on the test set of digits, by the data set's recipe.

    Both sides begin with the same weights and see the same augmented batches at the same learning rates. What counts is the
    time of the training steps; ours includes waiting for batches, whereas the other side is handed them ready made. After each
    epoch both are evaluated, which is not counted.

    Args:
        peer: a ``Peer`` that needed SpikingJelly, or None.
        seeds: of weights, order and augmentation, one race for each.
        goal: test accuracy, 0 to 1, that ends a race.
        epochs: give up after so many; by default those of the recipe, along whose schedule the learning rate falls in any case.
        say: called with each row.

    Returns:
        A list of dicts: seed, seconds, epochs, accuracy, and peer_seconds, peer_epochs, peer_accuracy, ratio (None without a
        peer). Seconds are None for a side that gave up; so is the ratio then.
    """
    rows, dataset = [], data.load("digits")
    for seed in seeds:
        options = train.Options(dataset="digits", model="syna-t", seed=seed)
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            own = race(OwnSide(options, dataset), options, dataset, goal, epochs)
            row = dict(seed=seed, **own, peer_seconds=None, peer_epochs=None, peer_accuracy=None, ratio=None)
            if peer:
                peer.ask("threads", count=threads.get_num_threads())
                theirs = race(OtherSide(peer, options, dataset, folder), options, dataset, goal, epochs)
                row |= {f"peer_{name}": value for name, value in theirs.items()}
                if own["seconds"] is not None and theirs["seconds"] is not None:
                    row["ratio"] = theirs["seconds"] / own["seconds"]
            rows.append(row)
            say(row)
    return rows


def race(side, options, dataset, goal, epochs):
    """Train one side, an epoch at a time, until it reaches the goal: {seconds, epochs, accuracy}."""
    batches = -(-len(dataset.train) // options.batch_size)
    clock = optim.CosineAnnealing(  # its optimizer is there for the rates only
        optim.SGD([Tensor(np.zeros(1), requires_grad=True)], options.lr),
        options.epochs * batches,
        warmup=round(options.warmup * batches),
    )
    total, accuracy, done = 0.0, 0.0, 0
    for done in range(1, (epochs or options.epochs) + 1):
        rates = [clock.rate(k) for k in range((done - 1) * batches, done * batches)]
        total += side.epoch(Loader(dataset.train, options.batch_size, options.seed, done - 1, shuffle=True), rates)
        accuracy = side.right(Loader(dataset.test, options.batch_size)) / len(dataset.test)
        if accuracy >= goal:
            break
    return dict(seconds=total if accuracy >= goal else None, epochs=done, accuracy=accuracy)


class OwnSide:
    """This engine in a race."""

    def __init__(self, options, dataset):
        self.net, _ = train.new_network(options, dataset)
        self.optimizer = optim.Adam(self.net.parameters(), options.lr)

    def epoch(self, loader, rates):
        self.net.train()
        start = time.perf_counter()
        for (x, labels), rate in zip(loader, rates):
            self.optimizer.lr = rate
            learn(self.net, self.optimizer, Tensor(x), ops.one_hot(labels, CLASSES))
        return time.perf_counter() - start

    def right(self, loader):
        self.net.eval()
        with no_grad():
            return sum(int((self.net(x).data.argmax(1) == labels).sum()) for x, labels in loader)


class OtherSide:
    """The peer in a race; it reads its batches from files."""

    def __init__(self, peer, options, dataset, folder):
        self.peer, self.folder = peer, folder
        net, _ = train.new_network(options, dataset)
        peer_network(peer, folder, net, options.lr)

    def files(self, loader):
        return [
            batch_file(self.folder / f"{k}.npz", np.asarray(x, np.float32), ops.one_hot(labels, CLASSES))
            for k, (x, labels) in enumerate(loader)
        ]

    def epoch(self, loader, rates):
        return self.peer.ask("epoch", batches=self.files(loader), rates=rates)

    def right(self, loader):
        return self.peer.ask("right", batches=self.files(loader))


def geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))

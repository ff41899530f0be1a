"""Small networks and single frames against other programs: `minisnn bench small` and `minisnn bench stream`.

    small   training on scikit-learn's digits, 8x8 pixels: a fully connected network, a recurrent one that reads row by row, and
            the same with learned time constants, beside SpikingJelly and snnTorch
    stream  from a frame of the gestures to the scores that include it, one sample at a time, beside SpikingJelly's
            single-step mode

All sides have the same initial weights, the same batches and, of the first batch, the same loss; of the stream, the same
scores.

Axes: T time steps, N batch, M samples, F features, K classes.
"""

from __future__ import annotations

import functools
import pathlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import data, ledger, models, ops, optim, threads, train
from .bench import SIZES, input_of, learn, paired_seconds, peer_network
from .engine import no_grad
from .nn import NEURONS, BatchNorm2d, Stream
from .peer import Peer

__all__ = ["SMALL", "OTHERS", "bench_neurons", "bench_small", "bench_stream"]


class Small(NamedTuple):
    """A network without maps, and how it sees a digit."""

    sizes: tuple[int, ...]
    recurrent: bool
    neuron: str
    timesteps: int | None  # at which the whole image is shown; None: a row of it at each of eight


SMALL = {
    "plain": Small((64, 128, 128, 10), False, "lif", 8),
    "recurrent": Small((8, 128, 10), True, "lif", None),
    "learned": Small((8, 128, 10), True, "plif", None),  # the same with learned time constants
}
OTHERS = ("spikingjelly", "snntorch")
BATCH, RATE, EPOCHS = 64, 5e-3, 20
TEST_SHARE = 0.2
FRAMES = 50
BIAS = 0.2  # of the batch norms in the stream's network, with which its neurons fire about as often as trained ones


def digits(row, seed):
    """(samples to train on, samples to test on) of the digits as a row of SMALL shows them, from 0 to 2."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = bunch.images.astype(np.float32) / 8
    x = x if row.timesteps is None else x.reshape(len(x), -1)
    parts = data.stratified_split(bunch.target, TEST_SHARE, seed)
    return [data.Arrays(x[part], bunch.target[part], row.timesteps) for part in parts]


def network(row, seed):
    """A network of SMALL. The input is not divided by tau, as in snnTorch, so PyTorch's initial weights let neurons fire."""
    build = models.recurrent if row.recurrent else models.fully_connected
    return build(row.sizes, row.neuron, seed=seed, gain=1.0, decay_input=False)


def own_training(row, train, test, orders, seed):
    """Ours: {seconds, accuracy, loss of the first batch}. What has to be compiled is compiled before."""
    net = network(row, seed)
    once = orders[0, :BATCH]
    learn(net, optim.Adam(net.parameters(), RATE), train.batch(once), train.labels[once], ops.cross_entropy)
    net, first = network(row, seed), None
    optimizer, start = optim.Adam(net.parameters(), RATE), time.perf_counter()
    for order in orders:
        for k in range(0, len(order), BATCH):
            chosen = order[k : k + BATCH]
            loss = learn(net, optimizer, train.batch(chosen), train.labels[chosen], ops.cross_entropy)
            first = loss if first is None else first
    seconds = time.perf_counter() - start
    with no_grad():
        right = net.eval()(test.batch(np.arange(len(test)))).data.argmax(1) == test.labels
    return dict(seconds=seconds, accuracy=float(right.mean()), loss=first)


def peer_training(peer, side, row, train, test, orders, seed):
    """The same on the other side."""
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch) / "small.npz"
        weights = {f"p{k:04d}": p.data for k, p in enumerate(network(row, seed).parameters())}
        samples = dict(x=train.x, y=train.labels, x_test=test.x, y_test=test.labels, orders=orders)
        np.savez(path, allow_pickle=False, **weights, **samples)
        plan = dict(sizes=row.sizes, recurrent=row.recurrent, learned=row.neuron == "plif", timesteps=row.timesteps)
        return peer.ask("small", side=side, plan=plan, path=str(path), batch_size=BATCH, lr=RATE)


def bench_small(
    peers: Mapping[str, Peer],
    rows: Sequence[str] = tuple(SMALL),
    epochs: int = EPOCHS,
    seed: int = 0,
    say: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
    """Seconds and test accuracy of training on the digits, side by side: Adam, cross-entropy, batches of 64.

    Args:
        peers: {one of OTHERS: a ``Peer`` that needed it}.
        rows: names of SMALL.
        epochs: passes over the training samples; compiling and reading are not timed.
        seed: of weights, split and order.
        say: called with each row.

    Returns:
        A list of dicts: network, side ("minisnn" or one of OTHERS), seconds, accuracy (0 to 1, on 359 test samples), loss of
        the first batch, and ratio: the side's seconds over ours.

    Raises:
        RuntimeError: the loss of the first batch is not ours, so the two networks are not the same.
    """
    found = []
    for name in rows:
        row = SMALL[name]
        train, test = digits(row, seed)
        rng = np.random.default_rng(seed)
        orders = np.stack([rng.permutation(len(train)) for _ in range(epochs)])
        own = own_training(row, train, test, orders, seed)
        sides = {"minisnn": own}
        for side, peer in peers.items():
            peer.ask("threads", count=threads.get_num_threads())
            sides[side] = theirs = peer_training(peer, side, row, train, test, orders, seed)
            if not np.isclose(own["loss"], theirs["loss"], rtol=1e-2):
                raise RuntimeError(
                    f"the loss is {own['loss']:.4g} here and {theirs['loss']:.4g} in {side}: the networks differ"
                )
        for side, result in sides.items():
            found.append(dict(network=name, side=side, **result, ratio=result["seconds"] / own["seconds"]))
            say(found[-1])
    return found


def bench_stream(peer: Peer | None = None, frames: int = FRAMES, seed: int = 0) -> dict[str, Any]:
    """Seconds from a frame to the scores that include it, one sample at a time: the OR network for the gestures, width 16.

    Args:
        peer: a ``Peer`` that needed SpikingJelly, or None.
        frames: how many are timed, in turn with the peer's.
        seed: of weights and of the order of the samples.

    Returns:
        dict: seconds, the median; seconds_95, within which 95 % are; firing_rate; peer_seconds, peer_seconds_95 and ratio, the
        medians' (None without a peer).

    Raises:
        RuntimeError: the scores are not those of the other side, so the two networks are not the same.
    """
    samples = data.load("gestures", seed=seed).test
    net = models.build("gestures", width=16, timesteps=samples.timesteps, seed=seed)
    calibrate(net, samples)
    rng, stream = np.random.default_rng(seed), Stream(net)
    times: list[list[float]] = []
    entries: list[Any] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        if peer:
            peer.ask("threads", count=threads.get_num_threads())
            peer_network(peer, folder, net, 0.0)
        for k in rng.permutation(len(samples))[: frames // samples.timesteps + 2]:  # the first one warms up
            x = np.asarray(samples.batch([k]), np.float32)
            stream.reset()
            own, scores = [], np.empty(0)
            for frame in x:
                start = time.perf_counter()
                scores = stream(frame[None]).data
                own.append(time.perf_counter() - start)
            theirs = []
            if peer:
                np.savez(folder / "frames.npz", allow_pickle=False, x=x)
                answer = peer.ask("frames", path=str(folder / "frames.npz"))
                theirs = answer["seconds"]
                if not np.allclose(scores, answer["scores"], atol=0.02 * np.abs(scores).max()):
                    raise RuntimeError(f"the scores are {scores} here and {answer['scores']} there: the networks differ")
            times += [[a, *b] for a, *b in zip(own, *([theirs] if peer else []))]
        with ledger.ledger() as entries:
            stream(x)
    timed = np.array(times[samples.timesteps :][:frames])
    middle, most = np.percentile(timed, (50, 95), axis=0)
    row = dict(seconds=middle[0], seconds_95=most[0], firing_rate=ledger.firing_rate(entries), frames=len(timed))
    both = timed.shape[1] == 2
    return row | dict(
        peer_seconds=middle[1] if both else None,
        peer_seconds_95=most[1] if both else None,
        ratio=middle[1] / middle[0] if both else None,
    )


def calibrate(net, samples):
    """Let the batch norms of a network with initial weights normalize, and its neurons fire, without running statistics."""
    train.recalibrate(net, [samples.batch(np.arange(16))])
    for norm in (module for module in net.modules() if isinstance(module, BatchNorm2d)):
        a = 1 / np.sqrt(norm.running_var + norm.eps)
        norm.weight.data[...], norm.bias.data[...] = a, BIAS - norm.running_mean * a
        norm.running_mean[...], norm.running_var[...] = 0, 1


def bench_neurons(repeat: int = 7, seed: int = 0) -> dict[str, float]:
    """How long a training step takes with each kind of neurons, relative to LIF: SynA-T on digits, width 16, T 4, batch 32.

    Returns:
        {name of NEURONS: ratio of the medians}; the kinds take turns.
    """
    size, steps = SIZES["digits"], {}
    x, y = input_of(size, seed)
    for name in NEURONS:
        net = models.build(
            "digits", width=size.width, timesteps=size.timesteps, seed=seed, neuron=name, **models.SYSTEMS["syna-t"]
        )
        steps[name] = functools.partial(learn, net, optim.Adam(net.parameters(), 1e-3), x, y)
    seconds = dict(zip(steps, paired_seconds(list(steps.values()), repeat)))
    return {name: each / seconds["lif"] for name, each in seconds.items()}

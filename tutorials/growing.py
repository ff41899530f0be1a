"""Holds your engine, mine.py, against the package, page by page.

    python growing.py            # everything
    python growing.py 4          # what page 4 adds
"""

import sys
import traceback
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import minisnn as snn
from minisnn import models, ops
from minisnn.ledger import ledger
from minisnn.surrogate import ATan


def tensors(*arrays):
    return [snn.Tensor(a, requires_grad=True) for a in arrays]


def check_linear(mine, rng):
    x, w, d = rng.normal(size=(5, 4)), rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    assert np.allclose(mine.linear(x, w), x @ w), "linear: not x @ w"
    a, b = tensors(x, w)
    ((a @ b) * d).sum().backward()
    for name, found, right in zip("xw", mine.linear_backward(d, x, w), (a.grad, b.grad)):
        assert found.shape == right.shape and np.allclose(found, right), f"linear_backward: the gradient of {name} is wrong"


def check_neuron(mine, rng):
    x = np.round(2 * rng.normal(1, 1, (12, 50))) / 2  # halves: some potentials are exactly at the threshold
    for tau in (2.0, 4.0):
        found, right = mine.neuron(x.copy(), tau), ops.lif(snn.Tensor(x), tau=tau).data
        both = isinstance(found, (tuple, list)) and [np.shape(part) for part in found] == [x.shape, x.shape]
        assert both and not np.array_equal(found[0], right), "neuron: return two arrays, u and s, in this order"
        u, wrong = found[0], found[1] != right
        step = wrong.any(1).argmax()  # what is wrong later may come of what is wrong here
        assert not wrong.any() or (u[step, wrong[step]] != 1).any(), "neuron: wrong spikes where u is exactly 1: it fires there"
        assert not wrong.any(), f"neuron: wrong spikes with tau {tau}"


def check_surrogate(mine, rng):
    u = np.linspace(-2, 3, 101)
    for alpha in (2.0, 5.0):
        assert np.allclose(mine.surrogate(u, alpha), ATan(alpha).derivative(u - 1)), f"surrogate: wrong for alpha {alpha}"


def check_neuron_backward(mine, rng):
    x, ds = rng.normal(1, 1, (2, 9, 30))
    for tau in (2.0, 3.0):
        (leaf,) = tensors(x)
        ops.lif(leaf, tau=tau).backward(ds)
        found = mine.neuron_backward(ds, *mine.neuron(x, tau), tau)
        assert np.allclose(found, leaf.grad), f"neuron_backward: wrong with tau {tau}"


def train_on_digits(mine, epochs=6, hidden=48, T=6, lr=0.01):
    """64 pixels, ``hidden`` neurons, 10 scores, of your functions alone; returns the accuracy on digits held out."""
    rng, digits = np.random.default_rng(0), load_digits()
    x, labels = digits.data / 8, digits.target  # currents of 0 to 2 thresholds
    order = rng.permutation(len(x))
    seen, held_out = order[:1400], order[1400:]
    weights = [rng.normal(0, 0.2, (64, hidden)), rng.normal(0, 0.2, (hidden, 10))]
    means = [(np.zeros_like(w), np.zeros_like(w)) for w in weights]

    def forward(x):
        u, s = mine.neuron(np.repeat(mine.linear(x, weights[0])[None], T, 0))
        return u, s, sum(mine.linear(s[t], weights[1]) for t in range(T)) / T

    step = 0
    for _ in range(epochs):
        for batch in np.array_split(rng.permutation(seen), 44):
            u, s, scores = forward(x[batch])
            d = 2 * (scores - np.eye(10)[labels[batch]]) / scores.size
            back = [mine.linear_backward(d / T, s[t], weights[1]) for t in range(T)]
            dx = mine.neuron_backward(np.stack([ds for ds, _ in back]), u, s)
            slopes = [mine.linear_backward(dx.sum(0), x[batch], weights[0])[1], sum(dw for _, dw in back)]
            step += 1
            for w, slope, (m, v) in zip(weights, slopes, means):  # Adam, of page 10
                m[:], v[:] = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
                w -= lr * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return np.mean(forward(x[held_out])[2].argmax(1) == labels[held_out])


def check_training(mine, rng):
    accuracy = train_on_digits(mine)
    print(f"        your network answers {accuracy:.1%} of 397 digits that it has not seen")
    assert accuracy > 0.9, "training: it does not learn"


def check_conv(mine, rng):
    for k, stride, padding in ((3, 1, 1), (3, 2, 1), (1, 2, 0), (5, 1, 0)):
        x, w = rng.normal(size=(2, 3, 9, 7)), rng.normal(size=(4, 3, k, k))
        right = ops.conv2d(snn.Tensor(x), snn.Tensor(w), stride, padding).data
        found = mine.conv(x, w, stride, padding)
        where = f"for kernel {k}, stride {stride}, padding {padding}"
        assert found.shape == right.shape, f"conv: {found.shape}, not {right.shape}, {where}"
        assert np.allclose(found, right), f"conv: wrong {where}"


def check_event_conv(mine, rng):
    for k, stride, padding in ((3, 1, 1), (3, 2, 1), (1, 2, 0)):
        x, w = rng.random((2, 3, 9, 7)) < 0.2, rng.integers(-9, 10, (4, 3, k, k)).astype(float)
        with ledger() as entries:
            right = ops.conv2d(snn.Tensor(x, dtype="float64"), snn.Tensor(w), stride, padding, "event").data
        found, additions = mine.event_conv(x, w, stride, padding)
        where = f"for kernel {k}, stride {stride}, padding {padding}"
        assert np.array_equal(found, right), f"event_conv: wrong sums {where}"
        assert additions == entries[0].ac, f"event_conv: {additions} additions, not {entries[0].ac}, {where}"


def check_batch_norm(mine, rng):
    x, weight, bias = rng.normal(2, 3, (3, 4, 5, 6, 2)), rng.normal(size=5), rng.normal(size=5)
    right = ops.batch_norm(*map(snn.Tensor, (x, weight, bias)), running_mean=np.zeros(5), running_var=np.ones(5))
    assert np.allclose(mine.batch_norm(x, weight, bias), right.data), "batch_norm: wrong"


def check_join(mine, rng):
    x, y, d = (rng.random((2, 40)) < 0.4).astype(float), (rng.random((2, 40)) < 0.4).astype(float), rng.normal(size=(2, 40))
    a, b = tensors(x, y)
    ops.join(a, b).backward(d)
    assert np.array_equal(mine.join(x, y), ops.join(a, b).data), "join: not the OR"
    assert all(np.allclose(*pair) for pair in zip(mine.join_backward(d, x, y), (a.grad, b.grad))), "join_backward: wrong"


def check_attention(mine, rng):
    x, squeeze, excite = rng.normal(1, 1, (4, 3, 16, 5, 5)), rng.normal(0, 0.4, (8, 16)), rng.normal(0, 0.4, (16, 8))
    for spiking in (False, True):
        right = ops.attention(snn.Tensor(x), "c", snn.Tensor(squeeze), snn.Tensor(excite), spiking=spiking).data
        found = mine.attention(x, squeeze, excite, spiking)
        assert np.allclose(found, right), f"attention: {'IA' if spiking else 'MA'} is wrong"


def parts(unit):
    """A unit of the package's network as the dictionary that ``block`` takes."""
    found = dict(w=unit.conv.weight.data, stride=unit.conv.stride, padding=unit.conv.padding,
                 weight=unit.norm.weight.data, bias=unit.norm.bias.data)
    if unit.attention is not None:
        squeeze, excite = unit.attention.weights
        found |= dict(squeeze=squeeze.data, excite=excite.data, spiking=unit.attention.spiking)
    return found


def check_block(mine, rng):
    stage = models.build("digits", attention="c", width=8, timesteps=4, dtype="float64", seed=0).stages[0]
    x = (rng.random((4, 2, 8, 8, 8)) < 0.3).astype(float)
    right = ops.join(stage.main(snn.Tensor(x)), stage.shortcut(snn.Tensor(x))).data
    found = mine.block(x, [parts(unit) for unit in stage.main], parts(stage.shortcut))
    assert found.shape == right.shape and np.mean(found == right) > 0.999, "block: not the spikes of the package's first stage"


ADDED = {  # page -> (what it adds, the check of it)
    1: [("linear, linear_backward", check_linear)], 2: [("neuron", check_neuron)], 3: [("surrogate", check_surrogate)],
    4: [("neuron_backward", check_neuron_backward), ("training", check_training)], 5: [("conv", check_conv)],
    6: [("event_conv", check_event_conv)], 7: [("batch_norm", check_batch_norm)], 8: [("join, join_backward", check_join)],
    9: [("attention", check_attention)], 10: [("block", check_block)],
}


def place(error, mine):
    """The line of the reader's own file in which the error came up, if it came up there."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == mine.__file__]
    return f" ({Path(mine.__file__).name}, line {lines[-1]})" if lines else ""


def grown(mine, pages=tuple(ADDED)):
    """Print one line per check; return whether all that is written is right, and how many checks passed."""
    right, good = 0, True
    for page in pages:
        for name, check in ADDED[page]:
            try:
                check(mine, np.random.default_rng(0))
            except NotImplementedError:
                print(f"page {page:2}: {name}: to do")
            except AssertionError as wrong:
                good = False
                print(f"page {page:2}: {wrong}")
            except Exception as error:
                good = False
                print(f"page {page:2}: {name}: it stops with {type(error).__name__}: {error}{place(error, mine)}")
            else:
                right += 1
                print(f"page {page:2}: {name}: as the package")
    return good, right


if __name__ == "__main__":
    import mine

    chosen = sys.argv[1:]
    if not all(word.isdigit() and int(word) in ADDED for word in chosen):
        sys.exit(f"give pages that add something: {', '.join(map(str, ADDED))}")
    sys.exit(0 if grown(mine, tuple(map(int, chosen)) or tuple(ADDED))[0] else 1)

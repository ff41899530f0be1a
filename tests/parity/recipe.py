"""What both sides of the parity test share: the cases, how weights and inputs are made, and how results are stored.

Weights and inputs are not stored but made again, entry by entry, from ``numpy.random.RandomState(seed).random_sample``, a
stream that NumPy has promised never to change, and arithmetic that IEEE 754 fixes to the bit. One stream per network: first
all parameters in definition order, then the input.

Axes: T time steps, N batch, C channels, H height, W width.
"""

import numpy as np

WIDTH, TIMESTEPS, BATCH = 8, 4, 2
SETTLE = 40  # further passes in training mode before evaluation mode is compared
INPUTS = {
    "mnist": (1, 28, 10),
    "cifar10": (3, 32, 10),
    "dvsgesture": (2, 128, 11),
    "cifar10dvs": (2, 128, 10),
}  # C, H = W, classes
CASES = [  # preset-residual-attention-position
    "mnist-or-t-a",
    "mnist-or-t-b",
    "mnist-or-c-b",
    "mnist-or-c-d",
    "mnist-or-s-c",
    "mnist-or-s-d",
    "mnist-or-none-a",
    "mnist-add-none-a",
    "mnist-and-none-a",
    "mnist-iand-none-a",
    "dvsgesture-or-t-b",
    "cifar10dvs-or-t-a",
    "cifar10-or-t-a",
]
FULL = 512  # a gradient of at most so many entries is stored whole, a larger one as its sketch
PROJECTIONS = 8


def options(case):
    """The arguments that a case's name stands for."""
    preset, residual, attention, position = case.split("-")
    return dict(preset=preset, residual=residual, attention=None if attention == "none" else attention, position=position)


def parameters(shapes, stream):
    """Weights for a network whose parameters have these shapes, in definition order.

    linear: uniform within b = 1 / sqrt(fan_in), as PyTorch starts it; conv: within 8 b, which batch norm undoes, but whose
    running variance then forgets in SETTLE passes that it started from 1, so that spikes also reach the head in evaluation
    mode; attention: within b, lifted by 1 / fan_in, so that IA's neurons fire; batch norm: weight 0.8 to 1.6, bias -0.1 to
    0.4, so that a wrong one shows.
    """
    filled, head = [], len(shapes) - 2  # the last two parameters are the head's weight and bias
    for k, shape in enumerate(shapes):
        u = stream.random_sample(shape)
        b = 1 / np.sqrt(np.prod(shapes[min(k, head)][1:]))
        if k >= head:
            p = b * (2 * u - 1)
        elif len(shape) == 1:  # batch norm: the weight follows the conv, the bias follows the weight
            p = 0.8 + 0.8 * u if len(shapes[k - 1]) == 4 else -0.1 + 0.5 * u
        elif len(shape) == 2 or shape[:2] == (1, 2):  # attention
            p = b * (2 * u - 1) + b * b
        else:
            p = 8 * b * (2 * u - 1)
        filled.append(p)
    return filled


def inputs(preset, stream):
    """Input [T, N, C, H, W], and one-hot targets [N, classes].

    Event data: frames in which 6% of the entries are 1; images: entries between 0 and 1, the same in every step.
    """
    C, size, classes = INPUTS[preset]
    steps = TIMESTEPS if C == 2 else 1
    u = stream.random_sample((steps, BATCH, C, size, size))
    x = (u < 0.06).astype(np.float64) if C == 2 else np.repeat(u, TIMESTEPS, 0)
    return x, np.eye(classes)[np.arange(BATCH) % classes]


def sketch(a):
    """Norm, largest absolute value and the sums of all entries under PROJECTIONS random choices of signs.

    Where the sums agree to e, so do the arrays, but for luck: a difference d shows as its projections on random
    directions, each about as large as the norm of d.
    """
    a = np.ravel(a)
    signs = np.where(np.random.RandomState(0).random_sample((PROJECTIONS, a.size)) < 0.5, -1.0, 1.0)
    return np.array([np.sqrt(np.sum(a * a)), np.max(np.abs(a)), *(signs @ a)])


def summary(results):
    """{key: array} -> the same with each large gradient replaced by its sketch, under the key "<key>.sketch"."""
    large = {key for key, a in results.items() if np.size(a) > FULL and key.startswith("g")}
    return {f"{key}.sketch" if key in large else key: sketch(a) if key in large else a for key, a in results.items()}


def save(path, results, **facts):
    """Write {key: array} as one flat array, which is half the size of many small ones; facts stand beside it."""
    flat = [np.ravel(a) for a in results.values()]
    np.savez_compressed(
        path,
        keys=np.array(list(results)),
        sizes=np.array([a.size for a in flat]),
        values=np.concatenate(flat).astype(np.float64),
        **facts,
    )


def load(path):
    """What ``save`` wrote: {key: flat array} and the facts."""
    with np.load(path) as stored:
        stored = dict(stored)
    keys, sizes, values = (stored.pop(name) for name in ("keys", "sizes", "values"))
    return dict(zip(keys.tolist(), np.split(values, np.cumsum(sizes)[:-1]))), stored

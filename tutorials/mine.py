"""Your own engine: it grows by a function or two with each page, and is yours to the end.

Replace a `raise NotImplementedError` with a few lines of NumPy. `python growing.py` says how far you are: it holds every
function against the package, trains a network of your functions on digits once you have those of page 4, and runs SynA's
block on them once you have those of page 10. solutions/mine.py has one way to write each. Axes: T time steps, N samples, C
channels, H, W.
"""

import numpy as np  # noqa: F401


def linear(x, w):
    """Page 1. x: [N, I], w: [I, O] -> [N, O]."""
    raise NotImplementedError


def linear_backward(d, x, w):
    """Page 1. d: [N, O], the gradient of what linear returned -> the gradients of x and of w."""
    raise NotImplementedError


def neuron(x, tau=2.0):
    """Page 2. Currents x: [T, ...] -> potentials u before the reset and spikes s; threshold 1, reset to 0, from rest."""
    raise NotImplementedError


def surrogate(u, alpha=2.0):
    """Page 3. The ATan surrogate's slope at potentials u, threshold 1."""
    raise NotImplementedError


def neuron_backward(ds, u, s, tau=2.0):
    """Page 4. ds: gradient of the spikes, u and s as neuron returned them -> gradient of the currents; the reset detached."""
    raise NotImplementedError


def conv(x, w, stride=1, padding=0):
    """Page 5. x: [N, C, H, W], w: [O, C, k, k] -> [N, O, H', W']."""
    raise NotImplementedError


def event_conv(x, w, stride=1, padding=0):
    """Page 6. Spikes x: [N, C, H, W], w: [O, C, k, k] -> what conv returns, by additions alone, and how many they were."""
    raise NotImplementedError


def batch_norm(x, weight, bias, eps=1e-5):
    """Page 7. x: [T, N, C, H, W], weight and bias: [C]; the batch's own statistics."""
    raise NotImplementedError


def join(x, y):
    """Page 8. The OR of spikes x (main branch) and y (shortcut)."""
    raise NotImplementedError


def join_backward(d, x, y):
    """Page 8. The gradients of x and y."""
    raise NotImplementedError


def attention(x, squeeze, excite, spiking):
    """Page 9. MA over channels, or IA if spiking, with ReLU. x: [T, N, C, H, W], squeeze: [hidden, C], excite: [C, hidden]."""
    raise NotImplementedError


def block(x, main, shortcut):
    """Page 10. SynA's block: spikes x [T, N, C, H, W] through the two units of main, beside it through shortcut, joined by OR.

    A unit is a dictionary: w, stride and padding of its convolution, weight and bias of its norm, and for attention squeeze,
    excite and spiking, where "squeeze" in unit says whether it has any. Convolution, norm, attention, neurons, in this order.
    """
    raise NotImplementedError

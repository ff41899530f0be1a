"""Spikes and gradients of other libraries' neurons, for test_parity_neurons.py: python make_neurons.py, where PyTorch,
SpikingJelly 2.0 and snnTorch are installed. Everything is float64. neurons.npz holds, for each case, spikes, the gradient of
the currents, and w and its gradient. SpikingJelly rounds w to float32 when it makes the neurons: 1 / tau is not quite 1 / 3.
"""

import itertools
import pathlib

import numpy as np

SHAPE = 6, 3, 4, 5  # T, N and two axes of features
FILE = pathlib.Path(__file__).parent / "neurons.npz"
ALPHA = 2.0
MOST = 1.2  # the largest current that snnTorch's neurons get


def cases():
    """{name: (kind, options)}."""
    found = {}
    for kind, v_reset, detach in itertools.product(("if", "lif", "plif"), (0.0, -0.3, None), (True, False)):
        for decay_input in (True,) if kind == "if" else (True, False):
            options = dict(v_reset=v_reset, detach_reset=detach) | ({} if kind == "if" else dict(decay_input=decay_input))
            found["-".join(map(str, (kind, v_reset, detach, decay_input)))] = kind, options
    return found


def inputs():
    """Currents and the gradient of the spikes."""
    stream = np.random.RandomState(7)
    return stream.normal(1.2, 2.5, SHAPE), stream.normal(0, 1, SHAPE)


def snntorch_cases():
    """Those of snnTorch's Leaky that obey the same equations: its reset at once instead of a step later, the input whole, and
    so small that no potential reaches twice the threshold, where its reset by subtraction would come twice.
    """
    import snntorch
    import torch

    stored = {}
    for reset in ("zero", "subtract"):
        node = snntorch.Leaky(
            beta=1 - 1 / 3.0, reset_mechanism=reset, reset_delay=False, spike_grad=snntorch.surrogate.atan(alpha=ALPHA)
        ).double()
        currents, grad = inputs()
        x, mem, spikes = torch.tensor(currents.clip(max=MOST), requires_grad=True), node.reset_mem(), []
        for t in range(len(x)):
            s, mem = node(x[t], mem)
            spikes.append(s)
        s = torch.stack(spikes)
        (s * torch.tensor(grad)).sum().backward()
        stored[f"snntorch-{reset}.s"], stored[f"snntorch-{reset}.dx"] = s.detach().numpy().astype(bool), x.grad.numpy()
        stored[f"snntorch-{reset}.beta"] = node.beta.detach().numpy()
    return stored


def main():
    import torch
    from spikingjelly.activation_based import neuron, surrogate

    stored = {}
    for name, (kind, options) in cases().items():
        fields = dict(options, surrogate_function=surrogate.ATan(alpha=ALPHA), step_mode="m")
        if kind == "if":
            node = neuron.IFNode(**fields)
        elif kind == "lif":
            node = neuron.LIFNode(tau=3.0, **fields)
        else:
            node = neuron.ParametricLIFNode(init_tau=3.0, **fields)
        node = node.double()
        currents, grad = inputs()
        x = torch.tensor(currents, requires_grad=True)
        s = node(x)
        (s * torch.tensor(grad)).sum().backward()
        stored[f"{name}.s"], stored[f"{name}.dx"] = s.detach().numpy().astype(bool), x.grad.numpy()
        if kind == "plif":
            stored[f"{name}.w"], stored[f"{name}.dw"] = node.w.detach().numpy(), node.w.grad.numpy()
    stored |= snntorch_cases()
    np.savez_compressed(FILE, **stored)
    print(sum(name.endswith(".s") for name in stored), "cases in", FILE)


if __name__ == "__main__":
    main()

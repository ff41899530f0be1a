"""Make the stored results of the parity test with PyTorch and SpikingJelly.

    python tests/parity/make_dumps.py --reference FILE [CASE ...]

FILE is a Python module with a class ResNet21(preset, residual, attention, position, T, width): a PyTorch/SpikingJelly build of
the same networks, called on [T, N, C, H, W] and answering with scores [T, N, classes]. It is filled by walking the list of its
parameters, as the test fills ours, so both must define them in the same order. Loading FILE shall run nothing but
definitions. No test needs this script; the files here were made with torch 2.13.0 and spikingjelly 2.0.0.

Equal results to 1e-9 need that no rounding error turns a decision over. So the seed of a case is the first for which every
layer of neurons fires, IA's neurons fire on every shortcut and do not all fire, every gradient is alive, and nothing lies
within
MARGIN of a decision: no potential of the threshold, no batch norm's output and no hidden unit of attention of 0 (where a ReLU
bends), no maximum of a competitor that does not equal it.
"""

import argparse
import importlib.util
import pathlib

import numpy as np
import recipe
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, neuron
from torch.utils._python_dispatch import TorchDispatchMode

MARGIN = 1e-8
ALIVE = 1e-7  # the least that the largest entry of any gradient must reach
TRIES = 400


class Watch(TorchDispatchMode):
    """Within its ``with`` statement: how often each layer fires, and how close any decision comes to turning over."""

    def __init__(self, net):
        super().__init__()
        self.rates, self.ia_rates, self.margins = [], [], dict(threshold=np.inf, relu=np.inf, maximum=np.inf)
        self.hooks = [m.register_forward_hook(self.after_neurons) for m in net.modules() if isinstance(m, neuron.LIFNode)]

    def __exit__(self, *error):
        for hook in self.hooks:
            hook.remove()
        return super().__exit__(*error)

    def note(self, decision, distances):
        if distances.numel():
            self.margins[decision] = min(self.margins[decision], distances.min().item())

    def after_neurons(self, module, arguments, spikes):
        x, h = arguments[0].detach(), 0.0
        for t in range(len(x)):  # charge, fire, hard reset to 0
            u = h + (x[t] - h) / module.tau
            self.note("threshold", (u - module.v_threshold).abs())
            h = u * (1 - spikes[t].detach())
        is_ia = len(x) == 1 or x[0, 0].numel() == 1  # its neurons see scores: one step, or one number for each step
        (self.ia_rates if is_ia else self.rates).append(spikes.mean().item())

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        out = function(*arguments, **(keywords or {}))
        name = function.overloadpacket.__name__
        if name == "native_batch_norm":
            self.note("relu", out[0].abs())
        elif name == "relu" and arguments[0].ndim == 2:  # hidden units; exactly 0 only where all that they see is 0
            self.note("relu", arguments[0][arguments[0] != 0].abs())
        elif name == "amax":
            x, axes = arguments[:2]
            gaps = torch.amax(x, axes, keepdim=True) - x
            self.note("maximum", gaps[gaps > 0])
        return out


def statistics(net):
    """Running mean and variance of each batch norm, in order."""
    return [b for name, b in net.named_buffers() if name.endswith(("running_mean", "running_var"))]


def arrays(tensors):
    return {key: t.detach().numpy().copy() for key, t in tensors.items()}


def train(net, x, y):
    """One pass in training mode and backward: {key: array} of the results, and the watch that was kept."""
    x = torch.tensor(x, requires_grad=True)
    with Watch(net) as watch:
        out = net(x).mean(0)
    loss = F.mse_loss(out, torch.tensor(y))
    loss.backward()
    results = dict(out=out, loss=loss, gx=x.grad)
    results |= {f"g{k:04d}": p.grad for k, p in enumerate(net.parameters())}
    return arrays(results | {f"running{k:04d}": b for k, b in enumerate(statistics(net))}), watch


def evaluate(net, x):
    """recipe.SETTLE more passes in training mode, then one in evaluation mode: as ``train``."""
    x = torch.tensor(x)
    with torch.no_grad():
        for _ in range(recipe.SETTLE):  # statistics of the batch are taken: every pass decides as the first did
            functional.reset_net(net)
            net(x)
        functional.reset_net(net)
        net.eval()
        with Watch(net) as watch:
            out = net(x).mean(0)
    return arrays(dict(out_eval=out) | {f"settled{k:04d}": b for k, b in enumerate(statistics(net))}), watch


def complaints(results, watch, training):
    """Why a seed will not do, in words; empty where it will."""
    decisions = watch.margins if training else ["threshold"]  # no gradient is taken there, and only spikes jump
    why = [f"{decision} by {watch.margins[decision]:.0e}" for decision in decisions if watch.margins[decision] < MARGIN]
    if min(watch.rates) == 0:
        why.append("silent layer")
    if training and watch.ia_rates and (min(watch.ia_rates) == 0 or min(watch.ia_rates) == 1):
        why.append("IA's neurons all alike")
    why += [f"dead gradient {key}" for key, a in results.items() if key.startswith("g") and np.abs(a).max() < ALIVE]
    return why


def make(reference, case):
    """The first seed that will do for a case: seed, shapes of the parameters, results, watch on the training pass."""
    options = recipe.options(case)
    for seed in range(TRIES):
        net = reference.ResNet21(**options, T=recipe.TIMESTEPS, width=recipe.WIDTH)
        shapes, stream = [tuple(p.shape) for p in net.parameters()], np.random.RandomState(seed)
        with torch.no_grad():
            for p, values in zip(net.parameters(), recipe.parameters(shapes, stream), strict=True):
                p.copy_(torch.tensor(values))
        x, y = recipe.inputs(options["preset"], stream)
        results, watch = train(net, x, y)
        why = complaints(results, watch, True)
        if not why:
            evaluated, last = evaluate(net, x)
            results |= evaluated
            why = complaints(evaluated, last, False)
        if not why:
            return seed, shapes, results, watch
        print(f"{case}: not seed {seed}: {', '.join(why)}", flush=True)
    raise SystemExit(f"{case}: none of {TRIES} seeds will do")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", required=True, metavar="FILE", help="a PyTorch/SpikingJelly build of the same networks")
    parser.add_argument("--out", default=pathlib.Path(__file__).parent, type=pathlib.Path, metavar="DIR")
    parser.add_argument("cases", nargs="*", default=recipe.CASES, metavar="CASE", help="default: all")
    arguments = parser.parse_args()
    spec = importlib.util.spec_from_file_location("reference", arguments.reference)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    torch.set_default_dtype(torch.float64)
    for case in arguments.cases:
        seed, shapes, results, watch = make(reference, case)
        recipe.save(
            arguments.out / f"{case}.npz",
            recipe.summary(results),
            seed=seed,
            shapes=np.array([shape + (0,) * (4 - len(shape)) for shape in shapes]),
            rates=watch.rates,
            ia_rates=watch.ia_rates,
            margins=list(watch.margins.values()),
        )
        print(
            f"{case}: seed {seed}, loss {results['loss']:.4f}, rates {min(watch.rates):.4f} to {max(watch.rates):.4f}, "
            f"IA {' '.join(f'{rate:.3f}' for rate in watch.ia_rates) or '-'}, "
            f"margins {' '.join(f'{margin:.0e}' for margin in watch.margins.values())}",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""Make the stored results of the parity test with PyTorch and SpikingJelly.

    python tests/parity/make_dumps.py --reference FILE [CASE ...]

FILE is a Python module with a class ResNet21(preset, residual, attention, position, T, width): a PyTorch/SpikingJelly build of
the same networks, called on [T, N, C, H, W] and answering with scores [T, N, classes]. It is filled by walking the list of its
parameters, as the test fills ours, so both must define them in the same order. Loading FILE shall run nothing but
definitions. No test needs this script; the files here were made with torch 2.13.0 and spikingjelly 2.0.0.

Equal results to 1e-9 need that no rounding error turns a decision over. So the seed of a case is the first for which every
layer of neurons fires, IA's neurons neither all fire nor all keep silent, every gradient is alive, and nothing lies within
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


def run(net, x, y):
    """A pass in training mode, backward, recipe.SETTLE more passes, a pass in evaluation mode.

    Returns:
        {key: array} of all results, and the watches that were kept on the first and on the last pass.
    """
    running = [b for name, b in net.named_buffers() if name.endswith(("running_mean", "running_var"))]
    x = torch.tensor(x, requires_grad=True)
    with Watch(net) as training:
        out = net(x).mean(0)
    loss = F.mse_loss(out, torch.tensor(y))
    loss.backward()
    results = dict(out=out, loss=loss, gx=x.grad)
    results |= {f"g{k:04d}": p.grad for k, p in enumerate(net.parameters())}
    results |= {f"running{k:04d}": b.clone() for k, b in enumerate(running)}
    with torch.no_grad():
        for _ in range(recipe.SETTLE):  # statistics of the batch are taken: every pass decides as the first did
            functional.reset_net(net)
            net(x)
        functional.reset_net(net)
        net.eval()
        with Watch(net) as evaluation:
            results["out_eval"] = net(x).mean(0)
    results |= {f"settled{k:04d}": b for k, b in enumerate(running)}
    return {key: a.detach().numpy() for key, a in results.items()}, training, evaluation


def complaints(results, training, evaluation):
    """Why a seed will not do, in words; empty where it will."""
    why = [f"{decision} by {margin:.0e}" for decision, margin in training.margins.items() if margin < MARGIN]
    if evaluation.margins["threshold"] < MARGIN:  # no gradient is taken there, and only spikes jump
        why.append("threshold in evaluation")
    if min(training.rates + evaluation.rates) == 0:
        why.append("silent layer")
    if any(rate in (0, 1) for rate in training.ia_rates):
        why.append("IA's neurons all alike")
    if any(np.abs(a).max() < ALIVE for key, a in results.items() if key.startswith("g")):
        why.append("dead gradient")
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
        results, training, evaluation = run(net, *recipe.inputs(options["preset"], stream))
        why = complaints(results, training, evaluation)
        if not why:
            return seed, shapes, results, training
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
        recipe.save(arguments.out / f"{case}.npz", recipe.summary(results), seed=seed,
                    shapes=np.array([shape + (0,) * (4 - len(shape)) for shape in shapes]),
                    rates=watch.rates, ia_rates=watch.ia_rates, margins=list(watch.margins.values()))
        print(f"{case}: seed {seed}, loss {results['loss']:.4f}, rates {min(watch.rates):.4f} to {max(watch.rates):.4f}, "
              f"IA {' '.join(f'{rate:.3f}' for rate in watch.ia_rates) or '-'}, "
              f"margins {' '.join(f'{margin:.0e}' for margin in watch.margins.values())}", flush=True)


if __name__ == "__main__":
    main()

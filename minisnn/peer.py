"""PyTorch, SpikingJelly and snnTorch for `minisnn bench`, in a process of their own, since two pools of threads in one slow
each other down.

``Peer`` runs this file in another Python, one that has them and need not have minisnn. That reads a request a line,
JSON [name of a function below, its arguments], and writes a line of JSON, the answer. Nothing heavy is imported here before a
request needs it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Peer"]


class Peer:
    """The other process. ``ask("name", ...)`` calls the function of that name in it.

    Args:
        python: the Python to run; it must be able to import ``needs``.
        needs: packages, such as ``"torch"``.
    """

    def __init__(self, python: str, *needs: str) -> None:
        self.process: Any = None
        try:
            found = (
                subprocess.run([python, "-c", f"import {', '.join(needs)}"], capture_output=True, check=False).returncode == 0
            )
        except OSError:
            found = False
        if found:
            # not as a script: this folder would be the first that the other Python looks into for its own modules
            start = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
            from .threads import SPINS  # not above: the other Python reads this file too, and need not have minisnn

            # what this process told its own libgomp would slow the other's down; what the user told it holds for both
            environment = {k: v for k, v in os.environ.items() if (k, v) != ("GOMP_SPINCOUNT", SPINS)}
            self.process = subprocess.Popen(
                [python, "-c", start, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )

    def __bool__(self) -> bool:
        """Whether there is one to ask."""
        return self.process is not None

    def ask(self, name: str, **arguments: Any) -> Any:
        """What the function returns there. Raises RuntimeError if the process ends instead."""
        try:
            self.process.stdin.write(json.dumps([name, arguments]) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"the other side ended at '{name}': its message is above")
        return json.loads(answer)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
            self.process.stdout.close()


# ---- what runs in the other process ----------------------------------------------------------------------------------

_kept: dict[str, Any] = {}  # the network, its optimizer and its input, from one request to the next


def threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)


def conv(images: int, channels: int, size: int, density: float, repeat: int) -> dict[str, float]:
    """Median seconds of the passes of a 3x3 convolution, each in the faster of two layouts of memory."""
    import statistics

    import torch

    best: dict[str, float] = {}
    gradients = torch.ops.aten.convolution_backward
    for layout in (torch.contiguous_format, torch.channels_last):
        x = (torch.rand(images, channels, size, size) < density).float().to(memory_format=layout)
        w = torch.randn(channels, channels, 3, 3).to(memory_format=layout)
        dy = torch.randn(images, channels, size, size).to(memory_format=layout)
        rest = [None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1]

        def gradient(which, x=x, w=w, dy=dy, rest=rest):
            return gradients(dy, x, w, *rest, which)

        passes: dict[str, Callable] = {
            "forward": lambda x=x, w=w: torch.conv2d(x, w, padding=1),
            "input_gradient": lambda gradient=gradient: gradient([True, False, False]),
            "weight_gradient": lambda gradient=gradient: gradient([False, True, False]),
        }
        with torch.no_grad():
            for name, call in passes.items():
                times = [seconds(call) for _ in range(repeat + 1)]
                best[name] = min(best.get(name, float("inf")), statistics.median(times[1:]))
    return best


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def network(channels, classes, width, timesteps, attention=True):
    """SynA-T-ResNet21 in SpikingJelly, for stems of 3x3 and stride 1: temporal MA in position a, temporal IA, OR joins; or,
    without attention, OR-ResNet21, which also works in the single-step mode.

    Its parameters are defined in the order of minisnn's.
    """
    import torch
    from spikingjelly.activation_based import layer, neuron, surrogate
    from torch import nn

    def fire():
        return neuron.LIFNode(tau=2.0, v_reset=0.0, detach_reset=True, surrogate_function=surrogate.ATan(), step_mode="m")

    class OverTime(nn.Module):
        def __init__(self, score):
            super().__init__()
            hidden = max(1, timesteps // 4)
            self.squeeze = nn.Linear(timesteps, hidden, bias=False)
            self.excite = nn.Linear(hidden, timesteps, bias=False)
            self.score = score

        def forward(self, x):
            pooled = torch.stack([x.mean((2, 3, 4)), x.amax((2, 3, 4))]).transpose(1, 2)
            logits = self.excite(torch.relu(self.squeeze(pooled))).sum(0)
            return torch.relu(self.score(logits.t().contiguous())[:, :, None, None, None] * x)

    def unit(before, after, kernel=3, stride=1, score=None):
        parts = [
            layer.Conv2d(before, after, kernel, stride, kernel // 2, bias=False, step_mode="m"),
            layer.BatchNorm2d(after, step_mode="m"),
        ]
        return nn.Sequential(*parts, *([OverTime(score)] if attention and score is not None else []), fire())

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            ma = torch.sigmoid
            self.stem = unit(channels, width)
            self.features = nn.Sequential(*(unit(width, width, score=ma if k % 2 == 0 else None) for k in range(4)))
            self.stages = nn.ModuleList()
            for k in range(3):
                c, d = width << k, width << (k + 1)
                main = nn.Sequential(unit(c, d, 3, 2, ma), unit(d, d))
                shortcut = unit(c, d, 1, 2, fire())
                after = nn.Sequential(unit(d, d, score=ma), unit(d, d))
                self.stages.append(nn.ModuleList([main, shortcut, after]))
            self.head = nn.Linear(8 * width, classes)

        def forward(self, x):
            x = self.features(self.stem(x))
            for main, shortcut, after in self.stages:
                a, b = main(x), shortcut(x)
                x = after(a + b - a * b)
            x = self.head(x.mean((-2, -1)))
            return x.mean(0) if x.ndim == 3 else x

    return Network()


def build(plan: dict[str, int], weights: str, lr: float) -> None:
    """Make the network of ``plan`` with the weights of an .npz file, in the order in which they are defined, and Adam."""
    import numpy as np
    import torch

    net = network(**plan)
    with np.load(weights, allow_pickle=False) as file:
        arrays = [file[name] for name in file.files]
    own = list(net.parameters())
    if [p.shape for p in own] != [a.shape for a in arrays]:
        raise ValueError("this network has other parameters")
    with torch.no_grad():
        for p, a in zip(own, arrays):
            p.copy_(torch.from_numpy(a))
    _kept["net"], _kept["optimizer"] = net, torch.optim.Adam(own, lr)


def give(path: str) -> None:
    """Take the arrays of an .npz file: x [T, N, C, H, W], y [N, classes]."""
    import numpy as np
    import torch

    with np.load(path, allow_pickle=False) as file:
        _kept["x"], _kept["y"] = (torch.from_numpy(file[name]) for name in ("x", "y"))


def frames(path: str) -> dict[str, Any]:
    """Show the frames x [T, 1, C, H, W] of a file one by one, in single-step mode: seconds of each, mean of their scores."""
    import numpy as np
    import torch
    from spikingjelly.activation_based import functional

    net, times = _kept["net"].eval(), []
    total: Any = 0.0
    functional.set_step_mode(net, "s")
    with np.load(path, allow_pickle=False) as file, torch.no_grad():
        x = torch.from_numpy(file["x"])
        for frame in x:
            start = time.perf_counter()
            total = total + net(frame)
            times.append(time.perf_counter() - start)
    functional.reset_net(net)
    return {"seconds": times, "scores": (total / len(x)).tolist()}


def small_network(side, sizes, recurrent, learned):
    """A network without maps, layer by layer: [T, N, F] to scores [N, K]. Its neurons do not divide their input by tau = 2."""
    import torch
    from torch import nn

    pairs = [(sizes[k], sizes[k + 1]) for k in range(len(sizes) - 2)]

    class Jelly(nn.Module):
        """Neurons of SpikingJelly; recurrent ones step by step, others all steps at once."""

        def __init__(self, size):
            super().__init__()
            from spikingjelly.activation_based import neuron, surrogate

            kind = neuron.ParametricLIFNode if learned else neuron.LIFNode
            more = dict(decay_input=False, v_reset=0.0, detach_reset=True, surrogate_function=surrogate.ATan())
            self.again: Any = nn.Linear(size, size) if recurrent else None
            self.fire = kind(2.0, **more, step_mode="s" if recurrent else "m")

        def forward(self, x):
            self.fire.reset()
            if self.again is None:
                return self.fire(x)
            spikes, last = [], torch.zeros_like(x[0])
            for current in x:
                last = self.fire(current + self.again(last))
                spikes.append(last)
            return torch.stack(spikes)

        def fill(self, arrays):
            return ([self.again.weight, self.again.bias] if recurrent else []) + ([self.fire.w] if learned else []), arrays

    class Torch(nn.Module):
        """Neurons of snnTorch."""

        def __init__(self, size):
            super().__init__()
            import snntorch
            from snntorch import surrogate

            more = dict(beta=0.5, learn_beta=learned, reset_mechanism="zero", reset_delay=False)
            more["spike_grad"] = surrogate.atan(alpha=2.0)
            self.fire = snntorch.RLeaky(linear_features=size, **more) if recurrent else snntorch.Leaky(**more)

        def forward(self, x):
            spikes, state = [], [torch.zeros_like(x[0]) for _ in range(2 if recurrent else 1)]
            for current in x:
                spike, *rest = self.fire(current, *state)
                state = [spike, *rest] if recurrent else rest
                spikes.append(spike)
            return torch.stack(spikes)

        def fill(self, arrays):
            own = [self.fire.recurrent.weight, self.fire.recurrent.bias] if recurrent else []
            if learned:  # beta = 1 - sigmoid(w)
                arrays = [*arrays[:-1], 1 / (1 + torch.exp(arrays[-1]))]
            return own + ([self.fire.beta] if learned else []), arrays

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
            self.neurons = nn.ModuleList({"spikingjelly": Jelly, "snntorch": Torch}[side](b) for _, b in pairs)
            self.head = nn.Linear(*sizes[-2:])

        def forward(self, x):
            for linear, neurons in zip(self.linear, self.neurons):
                x = neurons(linear(x))
            return self.head(x).mean(0)

        def fill(self, arrays):
            """Take the weights of minisnn's network, which lists each layer, then its neurons', then the head."""
            count = 2 * recurrent + learned
            with torch.no_grad():
                for linear, neurons in zip(self.linear, self.neurons):
                    own, theirs = neurons.fill(arrays[2 : 2 + count])
                    for p, array in zip([linear.weight, linear.bias, *own], [*arrays[:2], *theirs], strict=True):
                        p.copy_(array.reshape(p.shape))
                    arrays = arrays[2 + count :]
                for p, array in zip([self.head.weight, self.head.bias], arrays, strict=True):
                    p.copy_(array)
            return self

    return Network()


def small(side: str, plan: dict[str, Any], path: str, batch_size: int, lr: float) -> dict[str, float]:
    """Train a network without maps on the samples of an .npz file, in the given orders: seconds, test accuracy, first loss."""
    import numpy as np
    import torch

    timesteps = plan.pop("timesteps")
    with np.load(path, allow_pickle=False) as file:
        arrays = [torch.from_numpy(file[name]) for name in sorted(file.files) if name.startswith("p0")]
        x, y, x_test, y_test, orders = (torch.from_numpy(file[name]) for name in ("x", "y", "x_test", "y_test", "orders"))

    def shown(x):  # [T, N, F]
        return x.transpose(0, 1).contiguous() if timesteps is None else x.expand(timesteps, *x.shape)

    def step(net, optimizer, chosen):
        loss = torch.nn.functional.cross_entropy(net(shown(x[chosen])), y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    for once in (True, False):  # first a step that is not timed
        net, losses = small_network(side, **plan).fill(arrays), []
        optimizer, start = torch.optim.Adam(net.parameters(), lr), time.perf_counter()
        for order in orders[:1] if once else orders:
            batches = order[:batch_size].split(batch_size) if once else order.split(batch_size)
            losses += [step(net, optimizer, chosen) for chosen in batches]
        taken = time.perf_counter() - start
    with torch.no_grad():
        right = (net.eval()(shown(x_test)).argmax(1) == y_test).double().mean().item()
    return {"seconds": taken, "accuracy": right, "loss": losses[0]}


def learn(x, y):
    import torch
    from spikingjelly.activation_based import functional

    loss = torch.nn.functional.mse_loss(_kept["net"](x), y)
    _kept["optimizer"].zero_grad()
    loss.backward()
    _kept["optimizer"].step()
    functional.reset_net(_kept["net"])
    return loss.item()


def step(mode: str) -> dict[str, Any]:
    """Seconds of a training step, with its loss, or of an inference, on what was given."""
    import torch
    from spikingjelly.activation_based import functional

    net, x, y = (_kept[name] for name in ("net", "x", "y"))
    net.train(mode == "training")
    start = time.perf_counter()
    if mode == "training":
        loss = learn(x, y)
        return {"seconds": time.perf_counter() - start, "loss": loss}
    with torch.no_grad():
        net(x)
    functional.reset_net(net)
    return {"seconds": time.perf_counter() - start}


def epoch(batches: list[str], rates: list[float]) -> float:
    """Seconds of training on files of batches, each at its learning rate; reading the files is not counted."""
    _kept["net"].train()
    total = 0.0
    for path, rate in zip(batches, rates):
        give(path)
        _kept["optimizer"].param_groups[0]["lr"] = rate
        total += seconds(lambda: learn(_kept["x"], _kept["y"]))
    return total


def right(batches: list[str]) -> int:
    """How many samples of the files evaluation mode classifies correctly."""
    import torch
    from spikingjelly.activation_based import functional

    _kept["net"].eval()
    found = 0
    for path in batches:
        give(path)
        with torch.no_grad():
            found += int((_kept["net"](_kept["x"]).argmax(1) == _kept["y"].argmax(1)).sum())
        functional.reset_net(_kept["net"])
    return found


def main() -> None:
    for line in sys.stdin:
        name, arguments = json.loads(line)
        print(json.dumps(globals()[name](**arguments)), flush=True)


if __name__ == "__main__":
    main()

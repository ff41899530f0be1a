"""Under NUMBA_DISABLE_JIT=1 kernels are plain Python, so that one can step through them, and give the same numbers."""

import os
import pathlib
import subprocess
import sys

import numpy as np

from minisnn import Tensor, models, nn, ops, optim
from minisnn.ops.spikes import spikes_per_image


def results():
    """Every family of kernels once, forward and backward, on arrays as small as they come."""
    rng, found = np.random.default_rng(0), {}
    for attention, residual in (("t", "or"), ("c", "add"), ("s", "ms")):
        net = models.build("digits", residual=residual, attention=attention, width=8, timesteps=1, seed=0, dtype="float64")
        loss = ops.mse_loss(net(rng.random((1, 2, 1, 2, 2)) * 4), ops.one_hot([0, 1], 10))
        loss.backward()
        found |= {f"{residual} {name}": p.grad for name, p in net.named_parameters()} | {f"{residual} loss": loss.data}
    optimizer = optim.Adam(net.parameters())
    optimizer.step()
    found["adam"] = net.head.weight.data

    x = Tensor(rng.normal(0, 2, (2, 1, 3, 4, 4)), requires_grad=True)
    make = dict(rng=rng, dtype="float64")
    norm, gate, conv = nn.BatchNorm2d(3, dtype="float64"), nn.Attention("c", 2, 3, **make), nn.Conv2d(3, 2, 2, **make)
    y = ops.avg_pool2d(ops.max_pool2d(conv(ops.lif(gate(norm(x)))), 2, 1), 2)
    loss = ops.cross_entropy(y.reshape(2, -1), [0, 1])
    loss.backward()
    found |= {"parts loss": loss.data, "parts x": x.grad, "parts conv": conv.weight.grad, "parts gate": gate.squeeze.grad}
    found["smooth"] = ops.lif(x, smooth=True).data
    found["spikes"] = spikes_per_image(np.ones((1, 20, 20, 1), np.uint8))  # more than a byte can count
    return found


def test_kernels_run_as_plain_python(tmp_path):
    out, here = tmp_path / "results.npz", pathlib.Path(__file__)
    code = (
        f"import numpy, {here.stem} as here; from minisnn.ops.lif import lif_forward; "
        f"assert type(lif_forward).__name__ == 'function'; numpy.savez({str(out)!r}, **here.results())"
    )
    path = os.pathsep.join([str(here.parent), str(here.parent.parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": path})
    with np.load(out) as plain:
        for key, compiled in results().items():
            np.testing.assert_allclose(plain[key], compiled, rtol=1e-9, atol=1e-12, err_msg=key)

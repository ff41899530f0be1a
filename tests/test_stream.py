"""Streams: time steps one by one, in chunks or all at once give the same bits, and what cannot stream is refused by name."""

import json

import numpy as np
import pytest
from small_runs import complaints, small_run

from minisnn import Function, Tensor, anytime, cli, ledger, models, nn, no_grad, ops, train
from minisnn.nn.listening import evaluating

T, CUTS = 9, ([9], [1] * 9, [2, 1, 6])


def frames(*shape, dtype=np.float32):
    return np.random.default_rng(0).normal(0.5, 2, shape).astype(dtype)


def lively(net, x):
    """Batch norms with the statistics of x, a little above, so that each layer fires."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum, norm.bias.data = 1.0, norm.bias.data + 0.5
    with no_grad():
        net.train()(x)
    return net


def whole(net, x):
    """What the network says of all steps at once: [N, K]."""
    with evaluating(net):
        scores = net(Tensor(x))
    return (scores.mean(0) if scores.ndim == 3 else scores).data


def streamed(stream, x, cuts):
    """The scores after each call."""
    stream.reset()
    ends = np.cumsum(cuts)
    return [stream(x[end - n : end]).data for n, end in zip(cuts, ends)]


def holds(net, x):
    """Assert that any cuts give the bits of the whole network."""
    expected, stream = whole(net, x), nn.Stream(net)
    modes = [m.training for m in net.modules()]
    for cuts in CUTS:
        found = streamed(stream, x, cuts)
        assert stream.steps == T and found[-1].dtype == expected.dtype and np.array_equal(found[-1], expected)
        for scores, end in zip(found, np.cumsum(cuts)):
            assert np.array_equal(scores, whole(net, x[:end]))
    assert len({scores.tobytes() for scores in streamed(stream, x, [1] * T)}) > 1
    assert modes == [m.training for m in net.modules()]


@pytest.mark.parametrize("residual", ["or", "vanilla", "ms"])
@pytest.mark.parametrize("neuron", nn.NEURONS)
def test_networks_of_any_neurons_stream(neuron, residual):
    for dtype, N in (("float32", 1), ("float64", 3)):
        net = models.build("digits", residual, width=8, timesteps=T, neuron=neuron, seed=0, dtype=dtype)
        x = frames(T, N, 1, 8, 8, dtype=dtype)
        holds(lively(net, x), x)


@pytest.mark.parametrize("join", ["add", "and", "iand", "none"])
def test_networks_of_any_join_stream(join):
    net, x = models.build("digits", join, width=8, timesteps=T, seed=0), frames(T, 2, 1, 8, 8)
    holds(lively(net, x), x)


def test_soft_reset_and_constants_of_channels_stream():
    each, rng = np.linspace(1.5, 4, 8), np.random.default_rng(0)
    for neurons in (nn.LIF(v_reset=None), nn.LIF(tau=each, v_reset=-0.3), nn.PLIF(per_channel=True, channels=8)):
        linear = nn.Linear(6, 8, rng), nn.Linear(8, 3, rng)
        net = nn.Sequential(linear[0], neurons, nn.Dropout(), neurons, linear[1])  # a layer twice has two states
        holds(net, 3 * frames(T, 2, 6))


@pytest.mark.parametrize("neuron", nn.NEURONS)
def test_recurrent_networks_stream(neuron):
    rng = np.random.default_rng(0)
    again = nn.Recurrent(nn.Linear(8, 8, rng), nn.NEURONS[neuron]())
    holds(nn.Sequential(nn.Flatten(), nn.Linear(6, 8, rng), again, nn.Linear(8, 3, rng)), 3 * frames(T, 2, 1, 2, 3))


def test_recurrent_neurons_of_ones_own_stream():
    rng = np.random.default_rng(0)
    holds(nn.Sequential(nn.Recurrent(nn.Linear(6, 6, rng), Continuing())), frames(T, 2, 6))


class Direct(nn.Module):
    """Operations of neurons called from a forward."""

    def forward(self, x):
        return ops.alif(ops.lif(x, v_reset=None) * 2.0 - ops.if_(x) * 0.5).mean(0)


def test_operations_of_neurons_stream():
    holds(Direct(), frames(T, 2, 30))


def test_the_fused_operation_continues_from_a_state():
    rng, x = np.random.default_rng(0), frames(5, 2, 8, 6, 5)
    norm, neurons = nn.BatchNorm2d(8), nn.LIF(v_reset=-0.2)
    norm.running_mean[...], norm.running_var[...] = rng.normal(0, 1, 8), rng.uniform(0.5, 2, 8)
    norm.eval()
    constants = {k: v for k, v in neurons.options.items() if k not in ("surrogate", "smooth")}
    given = norm.weight, norm.bias, norm.running_mean, norm.running_var, ops.neuron(np.float32, **constants)
    h0 = rng.normal(0, 1, (2, 8, 6, 5)).astype(np.float32)
    with no_grad():
        s, h = neurons(norm(Tensor(x)), h0=h0, return_state=True)
        for start in (h0, Tensor(h0)):
            fused = ops.norm_fire(Tensor(x), *given, neurons.options["surrogate"], training=False, h0=start, return_state=True)
            assert np.array_equal(fused[0].data, s.data) and np.array_equal(fused[1].data, h.data)
        with pytest.raises(ValueError, match=r"h0 has shape \(3,\)"):
            ops.norm_fire(Tensor(x), *given, neurons.options["surrogate"], training=False, h0=np.ones(3))
    with pytest.raises(RuntimeError, match="no gradient"):
        ops.norm_fire(Tensor(x), *given, neurons.options["surrogate"], training=False, h0=h0)


def test_what_is_counted_is_what_the_whole_network_counts():
    net, x = models.build("digits", "or", width=8, timesteps=T, seed=0), frames(T, 2, 1, 8, 8)
    stream = nn.Stream(lively(net, x))
    sums = []
    for run in (lambda: whole(net, x), lambda: streamed(stream, x, [4, 5])):
        with ledger.ledger() as entries:
            run()
        sums.append({})
        for e in entries:
            row = sums[-1].setdefault((e.layer, e.kind), np.zeros(4, int))
            row += (e.spikes, e.neurons, e.ac, e.mac)
    assert sums[0].keys() == sums[1].keys() and all((sums[0][k] == sums[1][k]).all() for k in sums[0])


@pytest.mark.parametrize("dim", "tcs")
def test_attention_is_refused_by_name(dim):
    with pytest.raises(ValueError, match=r"features\.0\.attention \(Attention\) needs all time steps"):
        nn.Stream(models.build("digits", "or", attention=dim, width=8, timesteps=2))


class Peaks(Function):
    """Fires where the input is above a fifth of the previous ones' sum."""

    def forward(self, x):
        before = np.concatenate([np.zeros_like(x[:1]), x.cumsum(0)[:-1]])
        return x > before / 5

    def backward(self, grad):
        return grad


class Positive(Peaks):
    stateless = True

    def forward(self, x):
        return x > 0


class Own(nn.Module):
    def __init__(self, function):
        self.function = function

    def forward(self, x):
        return self.function.apply(x).mean(0)


class OwnNeurons(nn.Neurons):
    def forward(self, x):
        return Peaks.apply(x)


class Looping(nn.Module):
    """Carries a state by itself, but not from call to call."""

    def forward(self, x):
        s, h = ops.lif(x[:1], return_state=True)
        return ops.lif(x[1:], h0=h) + s if len(x) > 1 else s


class Continuing(nn.Neurons):
    """Neurons of one's own that say what they carry: the sum of their inputs."""

    def forward(self, x, h0=None, return_state=False):
        sums = x.data.cumsum(0, dtype=np.float64) + (0 if h0 is None else h0)
        s = Positive.apply(Tensor(np.sin(sums), dtype=x.dtype))
        return (s, sums[-1]) if return_state else s


def test_neurons_of_ones_own():
    x = frames(T, 2, 5, dtype=np.float64)
    holds(Own(Positive), x)
    holds(nn.Sequential(Continuing(), Continuing()), x)
    for net in (Own(Peaks), Looping()):
        stream = nn.Stream(net)
        with pytest.raises(ValueError, match=r"Stream: (Peaks|LIF) makes spikes.*h0 and return_state"):
            stream(x)
        assert stream.steps == 0
    with pytest.raises(ValueError, match=r"Stream: 0 \(OwnNeurons\) cannot continue from a state"):
        nn.Stream(nn.Sequential(OwnNeurons()))


def test_a_call_that_fails_changes_nothing():
    net, x = nn.Sequential(nn.Linear(6, 8), nn.LIF(), nn.Linear(8, 3)), 3 * frames(T, 2, 6)
    stream = nn.Stream(net)
    stream(x[:4])
    broken = x[4:].copy()
    broken[2, 0, 0] = np.nan
    with pytest.raises(FloatingPointError, match="NaN"):
        stream(broken)
    assert stream.steps == 4 and np.array_equal(stream(x[4:]).data, whole(net, x))
    for wrong, words in ((x[:1, :1], r"of \[t, 2, 6\]; call reset"), (x[:0], "t of at least 1"), (x[0, 0], "give")):
        with pytest.raises(ValueError, match=words):
            stream(wrong)
    stream.reset()
    assert np.array_equal(stream(x[:, :1]).data, whole(net, x[:, :1]))


# ---- minisnn evaluate --stream -------------------------------------------------------------------------------------------


def test_evaluate_shows_one_step_after_another(tmp_path, capsys):
    run = small_run(tmp_path / "run", timesteps=3)
    assert cli.main(["evaluate", str(run.path), "--stream", "--limit", "40", "-b", "16", "--json"]) == 0
    *said, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    stream, T = found["stream"], 3
    assert [len(stream[name]) for name in ("accuracy", "spikes", "energy_mj")] == [T] * 3
    assert stream["accuracy"][-1] == found["test_accuracy"] and stream["spikes"][-1] == pytest.approx(found["spikes"])
    assert stream["energy_mj"][-1] == pytest.approx(found["energy_mj"])
    assert 0 < stream["latency_ms"] <= stream["latency_ms_95"]
    assert np.all(np.diff([0, *stream["spikes"]]) > 0) and np.all(np.diff([0, *stream["energy_mj"]]) > 0)
    assert stream["figure"].endswith("stream.png") and (run.path / "figures" / "stream.png").read_bytes()[:4] == b"\x89PNG"
    assert sum(line.lstrip()[:1] in "123" and "%" in line for line in said if line.strip()) >= T


def test_accuracy_after_a_step_is_that_of_a_shorter_sample(tmp_path):
    run = small_run(tmp_path / "run", timesteps=4)
    net, test = run.network("last"), run.dataset().test
    found = anytime.anytime(net, test, batch_size=7, limit=30)

    class Shorter(type(test)):
        def batch(self, indices, rng=None):
            return super().batch(indices, rng)[: self.timesteps]

    for steps in range(1, 5):
        shorter = Shorter.__new__(Shorter)
        vars(shorter).update(vars(test), timesteps=steps)
        whole = train.evaluate(net, shorter, limit=30)
        assert found["accuracy"][steps - 1] == whole["accuracy"]
        assert found["spikes"][steps - 1] == pytest.approx(whole["report"].spikes)
        assert found["ac"][steps - 1] == pytest.approx(whole["report"].ac)
    assert anytime.latencies(net, test, frames=7).shape == (7,)


def test_a_run_that_cannot_stream_is_refused_in_one_line(tmp_path, capsys):
    run = small_run(tmp_path / "run", model="syna-c")
    assert cli.main(["evaluate", str(run.path), "--stream"]) == 2
    (line,) = complaints(capsys.readouterr().err)
    assert "--stream: " in line and "attention" in line and "--model or" in line
    assert not (run.path / "figures").exists()

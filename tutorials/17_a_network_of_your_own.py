# %% [markdown]
# # 17. A network of your own
#
# After this page you can write a neuron that the package does not know, put it into a network for data of your own,
# train it, count what it does, and run it frame by frame.
#
# You need: tutorials 2, 3, 4, 6, 10 and 11. Explains: `minisnn/nn/layers.py`, `minisnn/nn/stream.py`,
# `minisnn/data/base.py`, `minisnn/models/layered.py`. Paper: nothing on this page; it is yours.
#
# The question is one that no page has asked yet: which *rhythm* is it? A neuron that leaks forgets when a spike came,
# and only knows how many came lately. A cell of the ear rings instead, like a bell, and answers to its own period.
#
# ## 1. Data of your own
#
# Six channels of pulses. They all beat with a period of 4, 5, 6 or 7 steps, from a random start; each misses one beat
# in five, and extra pulses make twelve of every channel, so that counting them says nothing.

# %%
import matplotlib.pyplot as plt
import numpy as np

from helpers import BLUE, GREEN, ORANGE, exercise, save_figure
from minisnn import Function, Tensor, data, energy, gradcheck, ledger, models, nn, no_grad, ops, optim, train
from minisnn.surrogate import ATan

T, CHANNELS, PULSES, BEATS = 48, 6, 12, (4, 5, 6, 7)

def rhythms(samples, seed):
    """[M, T, C] Booleans, and which of BEATS each sample has"""
    rng = np.random.default_rng(seed)
    x, labels = np.zeros((samples, T, CHANNELS), bool), rng.integers(0, len(BEATS), samples)
    for sample, label in zip(x, labels):
        start = rng.integers(BEATS[label])
        for channel in sample.T:
            beats = np.arange(start, T, BEATS[label])
            channel[beats[rng.random(len(beats)) < 0.8]] = True
            channel[rng.choice(np.flatnonzero(~channel), PULSES - channel.sum(), replace=False)] = True
    return x, labels

learned, unseen = (data.Arrays(*rhythms(count, seed)) for count, seed in ((800, 0), (400, 1)))
batch = learned.batch([0, 1, 2])
print("samples", len(learned), "and", len(unseen), "- a batch", batch.shape, batch.dtype)
assert batch.shape == (T, 3, CHANNELS) and (batch.sum(0) == PULSES).all() and Tensor(batch).is_spikes

# %% [markdown]
# `data.Arrays` takes [M, T, F] or [M, T, C, H, W]; with `timesteps=` also still samples, which it shows at every step.
# Time goes first in a batch, as everywhere here, and Booleans stay spikes.
#
# ## 2. A neuron of your own
#
# The state of a resonator (Izhikevich 2001) is a point in the plane, a complex number z, which each step turns by the
# angle of its period p and shrinks a little; pulses push it to the right, and it fires where it is far enough there:
#
# $$z_t = \rho\, e^{2 \pi i / p}\, z_{t-1} + x_t, \qquad s_t = 1 \text{ if } \mathrm{Re}\, z_t \ge 1.$$
#
# Pulses that come once a turn add up, others cancel. There is no reset, so the backward loop is short. With
# $g_t$ the gradient of $z_t$ (its real part that of the real part, its imaginary part likewise) and $\sigma'$ the
# surrogate's derivative:
#
# $$g_t = \sigma'(\mathrm{Re}\, z_t - 1)\, \delta s_t + \rho\, e^{-2 \pi i / p}\, g_{t+1}, \qquad
# \delta x_t = \mathrm{Re}\, g_t.$$
#
# A *Function that returns Booleans* is a layer of neurons to everything else in the package.

# %%
class Resonate(Function):
    def forward(self, x, turn, z, end, smooth=False):
        self.u, self.turn = np.empty_like(x), turn  # what backward reads again
        for t in range(len(x)):
            z = turn * z + x[t]
            self.u[t] = z.real
        end.append(z)  # the state after the last step; end is the caller's list, since what is returned are the spikes only
        return ATan().primitive(self.u - 1) if smooth else self.u >= 1

    def backward(self, grad):
        grad, g, dx = grad * ATan().derivative(self.u - 1), 0, np.empty_like(grad)
        for t in reversed(range(len(grad))):
            g = grad[t] + np.conj(self.turn) * g
            dx[t] = g.real
        return dx

# %% [markdown]
# `smooth` gives it a twin that finite differences can check (tutorial 3): without it they would see only steps. (A second
# proof, the tape over elementary operations, is on page 4.)

# %%
turn = 0.9 * np.exp(2j * np.pi / np.array([3.0, 5.0]))
rng = np.random.default_rng(0)
x = Tensor(rng.normal(0, 1, (7, 2, 2)), requires_grad=True)
assert gradcheck(lambda x: Resonate.apply(x, turn=turn, z=np.zeros((2, 2)), end=[], smooth=True), [x])

# %% [markdown]
# The layer around it belongs to `nn.Neurons`. It says what its neurons carry from step to step: `h0` is the state
# before the first step (None at rest), and with `return_state` it returns the state after the last one. In section 5 that
# lets it run frame by frame. (The constants are in `options`: an array that is an attribute of a module would be
# a buffer, saved with the weights.)

# %%
class Resonators(nn.Neurons):
    def __init__(self, periods, rho=0.9):
        self.options = dict(turn=(rho * np.exp(2j * np.pi / np.asarray(periods))).astype(np.complex64))

    def forward(self, x, h0=None, return_state=False):
        turn, end = self.options["turn"], []
        s = Resonate.apply(x, turn=turn, z=np.zeros(x.shape[1:], turn.dtype) if h0 is None else h0, end=end)
        return (s, end[0]) if return_state else s

ear, beats = Resonators(BEATS), np.zeros((60, 4, 4), np.float32)
for k, period in enumerate(BEATS):
    beats[::period, k] = 0.6  # sample k: a beat of that period, for all four neurons
answers = ear(Tensor(beats)).data.mean(0)
print("spikes a step, a row for each beat of 4 to 7 steps, a column for each neuron:", answers.round(2), sep="\n")
assert (np.diag(answers) > 0.1).all() and answers.sum() == np.trace(answers)  # each to its own beat, and to no other

fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), width_ratios=(1, 1.6))
shown = left.imshow(answers, origin="lower", extent=(3.5, 7.5, 3.5, 7.5))
left.set(title="Each neuron answers to its own beat", xlabel="period of the neuron", ylabel="period of the pulses (steps)")
left.set_xticks(BEATS)
left.set_yticks(BEATS)
fig.colorbar(shown, ax=left, label="spikes a step")
for period, color, dash in ((6, BLUE, "-"), (5, ORANGE, "--")):
    pulses, z, u = np.zeros(36), 0, []
    pulses[::period] = 0.6
    for pulse in pulses:
        z = 0.9 * np.exp(2j * np.pi / 6) * z + pulse
        u.append(z.real)
    right.plot(u, color=color, linestyle=dash, label=f"pulses every {period} steps")
right.axhline(1, color="black", linewidth=0.8, linestyle=":")
right.set(title="Re z of a neuron of period 6", xlabel="time step", ylabel="Re z (it fires at 1)", ylim=(-1, 1.7))
right.legend(loc="upper left", fontsize=8)
save_figure("17_a_network_of_your_own_beats",
            "Left: spikes of four resonators, of periods 4 to 7, under beats of periods 4 to 7; they fire on the diagonal "
            "only, each at its own period. Right: the potential of a resonator of period 6 grows past the threshold under "
            "pulses every 6 steps and stays below it under pulses every 5.")

# %% [markdown]
# ## 3. A network around it
#
# A module with a `forward` is all it takes. Modules in a plain Python list would be overlooked by training and saving,
# and are refused; `nn.Sequential` and `nn.ModuleList` hold them. Beside it two from the package that are a line each: a
# fully connected network of LIF neurons, and one whose neurons hear each other's last spikes (`nn.Recurrent`), which
# could in principle keep the time.

# %%
NEURONS = 48

class Listener(nn.Module):
    def __init__(self, neurons, seed=0):
        rng = np.random.default_rng(seed)
        self.layers = nn.Sequential(nn.Linear(CHANNELS, NEURONS, rng), neurons, nn.Linear(NEURONS, len(BEATS), rng))

    def forward(self, x):
        return self.layers(x).mean(0)  # the mean over T, [N, classes]

def learn(net, epochs=8):
    adam = optim.Adam(net.parameters(), lr=0.01)
    for epoch in range(epochs):
        for x, labels in data.Loader(learned, 40, epoch=epoch, shuffle=True):
            adam.zero_grad()
            ops.cross_entropy(net(x), labels).backward()
            adam.step()
    return net

sizes = (CHANNELS, NEURONS, len(BEATS))
# gain: a factor of the initial weights in front of neurons, without which too few of them would fire
nets = {"resonators": learn(Listener(Resonators(np.linspace(3, 9, NEURONS)))),
        "LIF": learn(models.fully_connected(sizes, seed=0, gain=4.0)),
        "recurrent LIF": learn(models.recurrent(sizes, "lif", seed=0, gain=4.0))}
found = {name: train.evaluate(net, unseen, loss="ce") for name, net in nets.items()}
accuracy = {name: row["accuracy"] for name, row in found.items()}
print({name: f"{share:.1%}" for name, share in accuracy.items()})
assert accuracy["resonators"] > 0.95 and max(accuracy["LIF"], accuracy["recurrent LIF"]) < 0.85
print(nets["recurrent LIF"])

# %% [markdown]
# The same sizes, samples and epochs: what differs is what a neuron remembers. LIF is above chance, 25%, since with a
# short period more channels pulse at the same step, which LIF can notice. And the recurrent network is no proof that
# recurrence cannot do it: it learns slowly, and the best that we found, `neuron="plif"` with a gain of 8 and 24 epochs, was
# right on 61% of the unseen samples. We also chose it by them, which flatters it
# (tutorial 15).
#
# ## 4. What it costs
#
# The energy report knows the new neurons by the Booleans that they return: it has their spikes and firing rate, and the
# layer after them adds weights for spikes, AC and no MAC. So does the first layer, since the input is pulses.

# %%
report = energy.measure(nets["resonators"], unseen.batch(np.arange(100)))
print(report)
first, own, last = report.layers
assert own.kind == "Resonate" and 0 < own.firing_rate < 0.5 and own.spikes > 0
assert first.mac == last.mac == 0 and np.isclose(last.ac, own.spikes * len(BEATS))

# %% [markdown]
# Two things to be honest about. What neurons compute themselves is not counted, as in the paper (tutorial 11): for LIF
# that is little, but a resonator turns its state with four products a step. And an operation of your own that is no
# neuron says nothing by itself. Its row is *unknown* then, not 0, and so is the total, until it records what it does.

# %%
class Soften(Function):
    """The mean of each channel and its neighbors"""

    def forward(self, x):
        return (np.roll(x, 1, -1) + x + np.roll(x, -1, -1)) / np.asarray(3, x.dtype)

    def backward(self, grad):
        return self.forward(grad)

class Counted(Soften):
    def forward(self, x):
        ledger.record("soften", "linear", mac=3 * x.size)
        return super().forward(x)

class Apply(nn.Module):
    def __init__(self, function):
        self.function = function

    def forward(self, x):
        return self.function.apply(Tensor(x))

def with_before(function):
    return nn.Sequential(Apply(function), nets["resonators"])

silent, honest = (energy.measure(with_before(f), unseen.batch(np.arange(100)).astype(np.float32)) for f in (Soften, Counted))
print(silent)
assert silent.unknown == ["0"] and silent.as_dict()["layers"][0]["mac"] is None and "+ ?" in str(silent)
assert honest.unknown == [] and honest.layers[0].mac == 3 * T * CHANNELS

# %% [markdown]
# ## 5. Frame by frame
#
# A microphone does not deliver 48 steps at once. `nn.Stream` takes whatever has come, one step or several, keeps the
# neurons' states, and returns the mean of the scores so far: the same bits as all steps at once. A layer that needs all
# steps, such as attention over time, is refused by name, and so are neurons that do not say what they carry.

# %%
x, labels = unseen.batch(np.arange(len(unseen))), unseen.labels
right = {}
for name, net in nets.items():
    stream = nn.Stream(net)
    scores = [stream(frame[None]).data for frame in x]
    with no_grad():
        assert np.array_equal(scores[-1], net.eval()(x).data)
    right[name] = [float((each.argmax(1) == labels).mean()) for each in scores]
for name, row in right.items():
    print(f"{name:13} right after 6, 12, 24 and 48 steps:", [f"{row[t - 1]:.0%}" for t in (6, 12, 24, 48)])
assert right["resonators"][5] < right["resonators"][23] < right["resonators"][-1] + 0.02

class Forgetful(nn.Neurons):
    def forward(self, x):
        return Resonate.apply(x, turn=turn, z=np.zeros((1, 2)), end=[])

try:
    nn.Stream(nn.Sequential(Forgetful()))
    raise RuntimeError("it streams")
except ValueError as refusal:
    print(refusal)

fig, ax = plt.subplots(figsize=(6.5, 3.5))
for (name, row), color, dash in zip(right.items(), (BLUE, ORANGE, GREEN), ("-", "--", "-.")):
    ax.plot(range(1, T + 1), [100 * share for share in row], color=color, linestyle=dash, label=name)
ax.set(title="Right after so many steps", xlabel="time step", ylabel="test accuracy (%)", ylim=(0, 103))
ax.legend(fontsize=8)
save_figure("17_a_network_of_your_own",
            "Test accuracy against time steps: the resonators rise to nearly 100%, most of it within 20 steps; LIF neurons "
            "end below 60%, recurrent LIF neurons below 45%.")

# %% [markdown]
# ## Where to go from here
#
# The package's own neurons are built no differently: `minisnn/ops/if_.py` is the shortest page, and a neuron that is to
# be in every network needs its page, one row in `NEURONS` of `minisnn/nn/layers.py`, and one in the tests; then
# `minisnn train --neuron` knows it. `minisnn train --model recurrent` and `--dataset shd` train such networks on
# spoken digits. Ideas that are worth a week each:
#
# * Let the periods be learned: a `Parameter`, and its gradient through the loop (the states have to be kept).
# * Resonators as the first layer on the Spiking Heidelberg Digits, beside recurrent LIF with as many parameters.
# * A backward loop in Numba: `minisnn/ops/alif.py` shows how two state variables go through time at once.
# * A threshold that costs energy: add the spikes to the loss, and draw accuracy against additions.
# * Synaptic delays, learned, in place of resonance: which of the two needs fewer spikes for rhythms?
# * Stop early: in a stream, answer as soon as the score is sure enough, and count what that saves.
#
# ## Summary
#
# * A Function that returns Booleans is a neuron: it is counted, and what follows it adds for spikes.
# * A smooth twin proves its backward loop; `h0` and `return_state` let it stream, to the same bits.
# * What an operation of your own computes is unknown until it says it, and a report shows that it is.
#
# ## Further reading
#
# * E. M. Izhikevich, *Resonate-and-fire neurons*, Neural Networks 14 (2001).
# * S. Higuchi et al., *Balanced Resonate-and-Fire Neurons*, [arXiv:2402.14603](https://arxiv.org/abs/2402.14603).
# * B. Cramer et al., *The Heidelberg Spiking Data Sets*, [arXiv:1910.07407](https://arxiv.org/abs/1910.07407).

# %% [markdown]
# ## Exercises
# **1.** Another neuron: LIF as in tutorial 2 (tau 2, threshold 1, reset to 0), but for `quiet` steps (a whole number) after a
# spike it stays at 0 and hears nothing.
#
# Hint: keep for each neuron how many steps it still has to wait; charge where that is 0.

# %%
def refractory(x, quiet):
    """x: currents [T, ...]; returns spikes, Booleans of that shape"""
    raise NotImplementedError

def check_refractory(refractory):
    x = np.full((8, 2), 2.5) * [1, 0.5]  # the first one fires whenever it may, the second is charged for two steps
    without, two = (np.asarray(refractory(x, quiet)) for quiet in (0, 2))
    assert without.dtype == bool, "spikes are Booleans"
    assert without[:, 0].all() and not without[:, 1].all(), "with quiet = 0 it is the neuron of tutorial 2"
    assert two[:, 0].tolist() == [True, False, False] * 2 + [True, False], "after a spike, two steps of rest"
    assert np.flatnonzero(two[:, 1]).tolist() == [2, 7], "it begins at 0 again, and is not charged while it rests"

exercise(1, check_refractory, refractory)

# %% [markdown]
# **2.** What `nn.Stream` does for one layer: show it the steps one at a time, and return all spikes, [T, ...].
#
# Hint: run(x, state) returns (spikes, state); the first state is None, and x always has a time axis.

# %%
def one_at_a_time(run, x):
    raise NotImplementedError

def check_one_at_a_time(one_at_a_time):
    layer, x = Resonators([3, 5]), Tensor(np.random.default_rng(1).normal(0, 1, (20, 2, 2)).astype(np.float32))
    lengths, run = [], lambda x, state: (lengths.append(len(x)), layer(Tensor(x), h0=state, return_state=True))[1]
    spikes = one_at_a_time(lambda x, state: (lambda s, z: (s.data, z))(*run(x, state)), x.data)
    assert lengths == [1] * 20, "one step in each call"
    assert np.shape(spikes) == (20, 2, 2), f"spikes of shape {np.shape(spikes)}; give [T, ...]"
    assert np.array_equal(spikes, layer(x).data), "not the spikes of all steps at once: what was carried over?"

exercise(2, check_one_at_a_time, one_at_a_time)

# %% [markdown]
# **3.** The energy of a report in mJ, or None if some of it is not known.
#
# Hint: `report.unknown` names the layers that do not say what they do.

# %%
def surely(report):
    raise NotImplementedError

def check_surely(surely):
    assert surely(silent) is None, "one of its layers does not say what it does; what the others do is no total"
    assert surely(honest) is not None, "there every layer says what it does"
    assert np.isclose(surely(honest), honest.energy_mj), f"the report says {honest.energy_mj:.3g} mJ"

exercise(3, check_surely, surely)

# %% [markdown]
# # 12. Natural pruning
#
# After this page you can say why a shortcut with inhibitory attention may fall silent for good, find the silent ones
# of a trained network, take them out, and prove that no answer changes.
#
# You need: tutorials 8 to 11. Explains: `minisnn/pruning.py`. Paper: Sections III-E and V-B3, Figure 5, Table VIII.
#
# The paper reports that in training some shortcuts stop firing and never start again, without harm: "natural
# pruning". Why never again? IA puts out relu(w x) with a score w of 0 or 1 (tutorial 9). Where w = 0 the ReLU's input
# is 0, its gradient is taken to be 0 there, and nothing behind it learns: a valve.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minisnn as snn
from helpers import BLUE, GREEN, ORANGE, exercise, save_figure
from minisnn import data, energy, models, nn, ops, optim, pruning, train

def gate_gradients(d, x, w):
    """out = relu(w x), elementwise, with gradient d -> gradients of x and of w."""
    passed = w * x > 0
    return d * w * passed, d * x * passed

rng = np.random.default_rng(0)
d, x = rng.normal(size=(2, 6))
assert not np.any(gate_gradients(d, x, np.zeros(6)))  # shut: nothing to learn from
assert np.array_equal(gate_gradients(d, x, np.ones(6))[0], d * (x > 0))  # open: a plain ReLU

x = snn.Tensor(rng.normal(size=(4, 2, 8, 3, 3)), requires_grad=True)  # [T, N, C, H, W]
for size, is_open in ((0.01, False), (1.0, True)):  # the excite weights scale the logits; a score needs 2
    squeeze, excite = (snn.Tensor(v, requires_grad=True) for v in (np.full((8, 8), 0.2), np.full((8, 8), size)))
    x.zero_grad()
    out = ops.attention(x, "c", squeeze, excite, spiking=True)
    out.backward(rng.normal(size=x.shape))
    assert out.data.any() == x.grad.any() == excite.grad.any() == squeeze.grad.any() == is_open

# %% [markdown]
# **In a network.** We train SynA-C on the digits 0 to 3 as in tutorial 10, in two versions: as it is, and with the
# gates of shortcut 2 shut by hand before training (tiny excite weights), so that this page shows the effect each
# time. In the first version gates close, or do not, as chance and training want.

# %%
digits = data.load("digits", timesteps=4, augment=False)
part, test = (data.Subset(s, np.flatnonzero(s.labels < 4)) for s in (digits.train, digits.test))
part = data.limited(part, 400, seed=0)

def network():
    net = models.build("digits", attention="c", width=8, timesteps=4, seed=2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data[...] = 1.5
    return net

def fit(net, epochs=3, batch_size=16):
    """The loop of tutorial 10; returns the test reports (tutorial 11), one before training and one per epoch."""
    adam, batches = optim.Adam(net.parameters(), lr=0.01), -(-len(part) // batch_size)
    schedule, reports = optim.CosineAnnealing(adam, epochs * batches, warmup=batches), []
    for epoch in range(epochs):
        net.train()
        for x, labels in data.Loader(part, batch_size, seed=0, epoch=epoch, shuffle=True):
            loss = ops.mse_loss(net(x), ops.one_hot(labels, 10))
            net.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
        found = train.evaluate(net, test)
        reports.append(found["report"])
    print(f"test accuracy {found['accuracy']:.1%}, silent shortcuts: {reports[-1].silent_shortcuts or 'none'}")
    return reports

free, shut = network(), network()
shut.stages[1].shortcut.attention.excite.data *= 0.01
never_there = pruning.without(shut, (2,))  # for later: a copy without that shortcut, before training
before = shut.state_dict()
reports = {"free": fit(free), "shut by hand": fit(shut)}
after = shut.state_dict()

# %% [markdown]
# The shut one stays shut. Its shortcut has not emitted one spike, and not one of its weights has moved by one bit:
# not the convolution's, not the norm's, not the attention's. (Its running statistics have; they are no weights.) All
# other weights have learned.

# %%
assert all(report.rates["stages.1.shortcut"] == 0 for report in reports["shut by hand"])
for name, weight in shut.named_parameters():
    assert np.array_equal(before[name], after[name]) == name.startswith("stages.1.shortcut"), name
assert not np.array_equal(*(state["stages.1.shortcut.norm.running_mean"] for state in (before, after)))

# %% [markdown]
# **Taking it out.** With a silent shortcut y = 0, OR gives x + 0 - x 0 = x: the join can go, and the shortcut with
# it. By hand: build the network without shortcut 2, give it the other weights, compare all scores.

# %%
smaller = models.build("digits", attention="c", width=8, timesteps=4, removed=(2,))
smaller.load_state_dict({name: a for name, a in after.items() if not name.startswith("stages.1.shortcut")})
images = test.batch(np.arange(len(test)))
assert np.array_equal(smaller.eval()(images).data, shut.eval()(images).data)  # to the last bit

# %% [markdown]
# `pruning.prune` (`minisnn prune RUN --out DIR`) does the same, with one more precaution: a shortcut that is silent
# on the *training* set may still fire on the test set. It must not go then.

# %%
found = pruning.prune(shut, lambda: [part.batch(np.arange(len(part)))], lambda: [images])
assert 2 in found.removed and found.identical
print("firing rates on the training set:", found.train_rates, "removed:", found.removed)

# %% [markdown]
# **What is saved?** No spikes, since there were none. But the silent shortcut's convolution was still fed with spikes
# and added weights for nothing; that, its parameters and its batch norm are gone.

# %%
networks = {"before": shut, "after": smaller}
costs = {name: energy.measure(net, images) for name, net in networks.items()}
parameters = {name: sum(p.size for p in net.parameters()) for name, net in networks.items()}
for name, report in costs.items():
    print(f"{name:7} {parameters[name]:,} parameters, {report.spikes:.0f} spikes, {report.ac:.0f} AC, {report.mac:.0f} MAC")
assert costs["after"].ac < costs["before"].ac and costs["after"].mac < costs["before"].mac
assert costs["after"].spikes == costs["before"].spikes and parameters["after"] < parameters["before"]

# %% [markdown]
# It works with ADD as well, x + 0 = x, but not with every join. A silent y makes AND and IAND silent altogether
# (tutorial 8); there the engine refuses.

# %%
for residual in ("and", "iand"):
    assert not ops.join(snn.Tensor(np.ones(3)), snn.Tensor(np.zeros(3)), how="and").data.any()
    try:
        pruning.check_join(residual)
        raise AssertionError("pruned what cannot be pruned")
    except ValueError as error:
        print("as expected:", error)

# %% [markdown]
# **Why not leave it out from the start?** A shortcut that is shut from the first batch passes no signal and no
# gradient: training goes exactly as if it had never been there, bit for bit. So when the paper finds that natural
# pruning beats removal before training (Table VIII: 97.57 % against 95.83 % with SynA-T), then because of the time
# before the shortcut closed: while it was open, it taught the layers in front of it something.

# %%
fit(never_there)
without_it = {name: a for name, a in after.items() if not name.startswith("stages.1.shortcut")}
assert all(np.array_equal(a, without_it[name]) for name, a in never_there.state_dict().items())  # the same weights

fig, (left, middle, right) = plt.subplots(1, 3, figsize=(12.5, 3.8))
styles = ((BLUE, "-", "o"), (ORANGE, "--", "s"), (GREEN, "-.", "D"))
for ax, part_name, title in ((left, "shortcut", "Shortcut neurons"), (middle, "shortcut.attention", "Gates of IA")):
    for version, fill in (("free", "full"), ("shut by hand", "none")):
        for k, (color, dash, marker) in enumerate(styles):
            rows = [{row.name: row.firing_rate for row in report.layers} for report in reports[version]]
            ax.plot([1, 2, 3], [row[f"stages.{k}.{part_name}"] for row in rows], color=color, ls=dash, marker=marker,
                    fillstyle=fill, ms=6 if fill == "full" else 9, lw=1.8 if fill == "full" else 0.9,
                    label=f"{k + 1}, {version}")
    ax.set(title=title, xlabel="epoch", xticks=[1, 2, 3])
left.set_ylabel("spikes per neuron and step")
middle.set(ylabel="share that is open", ylim=(-0.05, 1.05))
middle.legend(fontsize=8, title="shortcut", loc="center right", bbox_to_anchor=(1, 0.4))
rows = [row for row in costs["before"].layers if row.name.startswith("stages.1")]
left_over = {row.name: row.ac for row in costs["after"].layers}
at = np.arange(len(rows))
right.barh(at - 0.2, [row.ac / 1e3 for row in rows], 0.38, color=ORANGE, hatch="//", edgecolor="white", label="before")
right.barh(at + 0.2, [left_over.get(row.name, 0) / 1e3 for row in rows], 0.38, color=BLUE, label="after pruning")
right.set_yticks(at, [energy.label(row.name) for row in rows], fontsize=8)
right.set(title="Additions in stage 2", xlabel="AC per image (thousands)")
right.invert_yaxis()
right.legend(fontsize=8)
save_figure("12_natural_pruning")

# %% [markdown]
# ## Exercises
# **1.** Which shortcuts can go without changing an answer? Given the join and the firing rates of each shortcut on
# the training and the test set, as {number: rate}, return the numbers in order.

# %%
def can_go(join, train_rates, test_rates):
    raise NotImplementedError

def check_can_go(can_go):
    train_rates = {1: 0.0, 2: 0.0, 3: 0.02, 4: 5e-5, 5: 0.0}  # two more than the network has, for rare spikes
    test_rates = {1: 0.0, 2: 0.001, 3: 0.0, 4: 0.0, 5: 5e-5}
    for join, expected in (("or", [1]), ("add", [1]), ("and", []), ("iand", [])):
        assert list(can_go(join, train_rates, test_rates)) == expected, f"join {join}: expected {expected}"

exercise(1, check_can_go, can_go)

# %% [markdown]
# **2.** How many parameters does shortcut k (1, 2 or 3) hold, with IA over channels, in a network of this width? (1x1
# convolution from width 2^(k-1) to width 2^k channels, batch norm, attention with 8 hidden units.)

# %%
def shortcut_parameters(k, width):
    raise NotImplementedError

def check_shortcut_parameters(shortcut_parameters):
    for width in (8, 16):
        net = models.build("digits", attention="c", width=width, timesteps=4, seed=0)
        for k in (1, 2, 3):
            expected = sum(p.size for p in net.stages[k - 1].shortcut.parameters())
            mine = shortcut_parameters(k, width)
            assert mine == expected, f"shortcut {k}, width {width}: {mine}, not {expected}"

exercise(2, check_shortcut_parameters, shortcut_parameters)

# %% [markdown]
# # 12. Natural pruning
#
# After this page you can say why a shortcut with inhibitory attention (IA) may fall silent for good, tell a silent shortcut
# from one that only seems so, find the silent ones of a trained network, take them out, and prove that no answer changes.
#
# You need: tutorials 8 to 11. Explains: `minisnn/pruning.py`. Paper: Sections III-E and V-B3, Figure 5, Table VIII.
#
# The paper reports that in training some shortcuts stop firing and never start again, without harm: "natural
# pruning". Why never again? IA's output is relu(w x) with a score w of 0 or 1 (tutorial 9). Where w = 0 the ReLU's input
# is 0, its gradient is taken to be 0 there, and no layer before it learns through it: a one-way valve.

# %%
import contextlib

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
# **In a network.** We train SynA-C (both kinds of attention, over channels) on the digits 0 to 3 as in tutorial 10, twice: as
# it is, and with the gates of shortcut 2 shut by hand before training (tiny excite weights). Whether a shortcut falls silent
# by itself is up to chance: with about one seed in four one falls silent early, within three epochs, and which seeds these
# are, the rounding of your CPU decides too. So we try one seed after another until it happens. While a network trains we
# listen to the three shortcuts, note in which batches each one's convolution gets a gradient, and how far the optimizer moves
# its weights. (Shortcut k belongs to `net.stages[k - 1]`: Python counts from 0, the paper from 1.)
#
# **Before you run it:** a shut gate passes no gradient. Do the weights that feed it stand still from that batch on?

# %%
digits = data.load("digits", timesteps=4, augment=False)
part, test = (data.Subset(s, np.flatnonzero(s.labels < 4)) for s in (digits.train, digits.test))
part = data.limited(part, 400, seed=0)

def network(seed):
    net = models.build("digits", attention="c", width=8, timesteps=4, seed=seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data[...] = 1.5
    return net

def fit(net, epochs=3, batch_size=16):
    """The loop of tutorial 10; returns what was seen: per epoch, and per batch for the weights of each shortcut."""
    adam, batches = optim.Adam(net.parameters(), lr=0.01), -(-len(part) // batch_size)
    schedule = optim.CosineAnnealing(adam, epochs * batches, warmup=batches)
    weights = {k: stage.shortcut.conv.weight for k, stage in enumerate(net.stages, 1) if stage.shortcut}
    seen = {"training": [], "report": [], "rate": [], "gradient": {k: [] for k in weights}, "moved": {k: [] for k in weights}}
    for epoch in range(epochs):
        net.train()
        fired = {k: [] for k in (1, 2, 3)}
        with contextlib.ExitStack() as stack:
            for k, stage in enumerate(net.stages, 1):
                if stage.shortcut:
                    stack.enter_context(nn.listen(stage.shortcut, lambda _, out, k=k: fired[k].append(out.data.mean())))
            for x, labels in data.Loader(part, batch_size, seed=0, epoch=epoch, shuffle=True):
                loss = ops.mse_loss(net(x), ops.one_hot(labels, 10))
                net.zero_grad()
                loss.backward()
                before = {k: weight.data.copy() for k, weight in weights.items()}
                seen["rate"].append(adam.lr)
                adam.step()
                schedule.step()
                for k, weight in weights.items():
                    seen["gradient"][k].append(bool(weight.grad.any()))
                    seen["moved"][k].append(np.abs(weight.data - before[k]).max())
        seen["training"].append({k: np.mean(rates) for k, rates in fired.items() if rates})
        found = train.evaluate(net, test)
        seen["report"].append(found["report"])
    seen["accuracy"] = found["accuracy"]
    print(f"test accuracy {found['accuracy']:.1%}, silent shortcuts: {found['report'].silent_shortcuts or 'none'}")
    return seen

def fell_silent(run):
    """The shortcuts that fired in the first epoch and not once in the others, nor at the end in evaluation."""
    first, *others = run["training"]
    return [k for k in run["report"][-1].silent_shortcuts if first[k] > 0 == max(rates[k] for rates in others)]

for seed in (7, 6, 9, *range(10, 40)):
    free = network(seed)
    runs = {"free": fit(free)}
    if fell_silent(runs["free"]):
        break
shut = network(seed)
shut.stages[1].shortcut.attention.excite.data *= 0.01
never_there = pruning.without(shut, (2,))  # for later: a copy without that shortcut, before training
before = shut.state_dict()
runs["shut by hand"] = fit(shut)
after = shut.state_dict()

# %% [markdown]
# **It happens.** A shortcut of the free network fires for a while, falls silent within the first epoch, and stays silent:
# in training mode, in evaluation mode, for good.

# %%
for name, run in runs.items():
    for epoch in range(3):
        evaluated = {k: run["report"][epoch].rates[f"stages.{k - 1}.shortcut"] for k in (1, 2, 3)}
        print(f"{name:12} epoch {epoch + 1}: in training", *(f"{k}: {r:.4f}" for k, r in run["training"][epoch].items()),
              "  in evaluation", *(f"{k}: {r:.4f}" for k, r in evaluated.items()))
gone = fell_silent(runs["free"])[-1]
print("fell silent:", gone)

# %% [markdown]
# **A trap in that table.** After the first epoch shortcuts seem silent in evaluation that fired all the time in training. In
# epoch 1 they still fired; those that fire on in training come back in evaluation too. Evaluation uses the running statistics
# of the batch norms (tutorial 7), after 25 batches they lag behind weights that move fast, and through 20 layers the lag adds
# up. So look at training mode before you call a shortcut dead (firing_rates.csv of a run has both), and prune after training,
# not before.

# %%
first = [(run["training"][0], run["report"][0].rates) for run in runs.values()]
assert any(rates[f"stages.{k - 1}.shortcut"] < 0.1 * fired[k] for fired, rates in first for k in fired if fired[k] > 0.05)

fig, ax = plt.subplots(figsize=(6.5, 3.6))
for k, color, dash, marker in ((1, BLUE, "-", "o"), (2, ORANGE, "--", "s"), (3, GREEN, "-.", "D")):
    ax.plot([1, 2, 3], [rates[k] for rates in runs["free"]["training"]], color=color, ls=dash, marker=marker,
            label=f"{k}, training")
    ax.plot([1, 2, 3], [report.rates[f"stages.{k - 1}.shortcut"] for report in runs["free"]["report"]], color=color, ls=dash,
            marker=marker, fillstyle="none", ms=9, lw=0.8, label=f"{k}, evaluation")
ax.set(title="Shortcuts of the free network", xlabel="epoch", ylabel="spikes per neuron and step", xticks=[1, 2, 3])
ax.legend(fontsize=8, title="shortcut, mode", loc="center left", bbox_to_anchor=(1, 0.5))
save_figure("12_natural_pruning_shortcuts",
            "Firing rate of the three shortcuts over three epochs, in training and in evaluation. At least one falls "
            "to 0 in both and stays there; in evaluation some seem silent after the first epoch that fire in training.")

# %% [markdown]
# **It coasts.** From some batch on the silent shortcut gets no gradient at all. Its weights move on nevertheless: Adam steps
# along running *means* of gradients (tutorial 10), which fade by a tenth with each batch, to 35% after ten. The steps fade
# more slowly at first: the learning rate still rises, over the first 25 batches, and Adam makes up for means that are still
# young. Later they fade faster, since the rate falls to 0. The last assert below has all of that in one factor. So the valve
# is one of the gradient; for some tens of batches the weights that feed it drift as the last gradients told them, and a gate
# just shut could drift open again. (With plain gradient descent they would stand still at once.) Once the means have faded to
# nothing, it is final.

# %%
gradient, moved = np.array(runs["free"]["gradient"][gone]), np.array(runs["free"]["moved"][gone])
last = np.flatnonzero(gradient)[-1]
print(f"the last gradient in batch {last + 1} of {len(gradient)}; largest step of a weight {moved[last]:.1e} in that batch, "
      f"{moved[last + 10]:.1e} ten batches later, {moved[-1]:.1e} in the last one")
assert last < len(gradient) - 20 and moved[last + 5] > 0 and moved[-1] < 1e-3 * moved[last]
n = last + 1 + np.array([0, 10])  # batches so far; the mean of gradients fades by 0.9, that of their squares by 0.999
steps = runs["free"]["rate"][last : last + 11 : 10] * 0.9**n / (1 - 0.9**n) / np.sqrt(0.999**n / (1 - 0.999**n))
print(f"learning rate, means and their corrections say {steps[1] / steps[0]:.2f} times as large, it was "
      f"{moved[last + 10] / moved[last]:.2f} times")
assert np.isclose(steps[1] / steps[0], moved[last + 10] / moved[last], rtol=0.02)

fig, ax = plt.subplots(figsize=(6.5, 3.4))
batch = np.arange(1, len(moved) + 1)
ax.semilogy(batch[gradient], moved[gradient], "o", ms=4, color=BLUE, label="with a gradient")
ax.semilogy(batch[~gradient], np.maximum(moved[~gradient], 1e-12), "x", ms=5, color=ORANGE, label="without: Adam coasts")
ax.set(title=f"Shortcut {gone}: largest step of a weight", xlabel="batch", ylabel="size of the step")
ax.legend(fontsize=8)
save_figure("12_natural_pruning",
            "Largest step of a weight of the silent shortcut in each batch: with a gradient they rise with the learning "
            "rate, from 4e-4 to a few thousandths; after the last gradient they fade smoothly, slowly at first and then by "
            "many orders of magnitude.")

# %% [markdown]
# The shortcut that was shut by hand before the first batch has no such past: Adam's means are zero. It has not emitted one
# spike, and not one of its weights has moved by one bit: not the convolution's, not the norm's, not the attention's. (Its
# running statistics have; they are no weights.) All other weights have learned.

# %%
assert all(report.rates["stages.1.shortcut"] == 0 for report in runs["shut by hand"]["report"])
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
# on the *training* set may still fire on the test set. Then it must stay.

# %%
for name, net, k in (("free", free, gone), ("shut by hand", shut, 2)):
    found = pruning.prune(net, lambda: [part.batch(np.arange(len(part)))], lambda: [images])
    assert k in found.removed and found.identical
    print(f"{name:12} firing rates on the training set", *(f"{k}: {r:.4f}" for k, r in found.train_rates.items()),
          "  removed:", *found.removed)

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

rows = [row for row in costs["before"].layers if row.name.startswith("stages.1")]
left_over = {row.name: row.ac for row in costs["after"].layers}
at, (fig, ax) = np.arange(len(rows)), plt.subplots(figsize=(6.5, 3))
ax.barh(at - 0.2, [row.ac / 1e3 for row in rows], 0.38, color=ORANGE, hatch="//", edgecolor="white", label="before")
ax.barh(at + 0.2, [left_over.get(row.name, 0) / 1e3 for row in rows], 0.38, color=BLUE, label="after pruning")
ax.set_yticks(at, [energy.label(row.name) for row in rows], fontsize=8)
ax.set(title="Additions in stage 2", xlabel="AC per image (thousands)")
ax.invert_yaxis()
ax.legend(fontsize=8)
save_figure("12_natural_pruning_additions",
            "Additions of each layer of stage 2 before and after pruning: the shortcut's are gone, those of all other "
            "layers are the same.")

# %% [markdown]
# It works with ADD as well, x + 0 = x, but not with every join. A silent y makes AND and IAND silent altogether
# (tutorial 8); there the engine refuses.

# %%
for residual in ("and", "iand"):
    assert not ops.join(snn.Tensor(np.ones(3)), snn.Tensor(np.zeros(3)), how=residual).data.any()
    try:
        pruning.check_join(residual)
        raise AssertionError("pruned what cannot be pruned")
    except ValueError as error:
        print("as expected:", error)

# %% [markdown]
# **Why not leave it out from the start?** A shortcut that is shut from the first batch passes no signal and no
# gradient: training goes exactly as if it had never been there, bit for bit.

# %%
fit(never_there)
without_it = {name: a for name, a in after.items() if not name.startswith("stages.1.shortcut")}
assert all(np.array_equal(a, without_it[name]) for name, a in never_there.state_dict().items())  # the same weights
for name, run in runs.items():
    print(f"{name:12} {run['accuracy']:.1%}")

# %% [markdown]
# The two accuracies differ, and this page cannot say why: one run each, three epochs, another path through the weights. A
# shortcut is there to train the layers before it, and early in training it is missed; over many seeds and longer runs the
# gap may close. The paper finds that natural pruning beats removal before training (Table
# VIII: 97.57% against 95.83% with SynA-T). Its explanation is the time before the shortcut closed: while it was open, it
# taught the layers before it something. That is consistent with what you see here, and it is not proven by it.

# %% [markdown]
# ## Summary
#
# * A gate of IA that shuts passes no gradient; its shortcut may fall silent for good. Whether it does depends on the
#   seed.
# * Adam keeps moving weights for some tens of batches after their last gradient.
# * Silence in evaluation may be an artefact of running statistics; look at training mode, and at the training set and
#   the test set.
# * With OR and ADD a silent shortcut can go, and every score stays the same to the last bit.
#
# ## Further reading
#
# * Y. Shan et al., *SynA-ResNet: Spike-driven ResNet Achieved through OR Residual Connection*,
#   [arXiv:2311.06570](https://arxiv.org/abs/2311.06570), Section V-B3.
# * Y. LeCun, J. S. Denker, S. A. Solla, *Optimal Brain Damage*, NeurIPS 1989: what can go from a trained network.

# %% [markdown]
# ## Exercises
# **1.** Which shortcuts can go without changing an answer? Given the join and the firing rates of each shortcut on
# the training and the test set, as {number: rate}, return the numbers in order.
#
# Hint: which joins give back the main branch when the shortcut is 0? Silent means 0, not nearly.

# %%
def can_go(join, train_rates, test_rates):
    raise NotImplementedError

def check_can_go(can_go):
    train_rates = {1: 0.0, 2: 0.0, 3: 0.02, 4: 5e-5, 5: 0.0}  # two more than the network has, for rare spikes
    test_rates = {1: 0.0, 2: 0.001, 3: 0.0, 4: 0.0, 5: 5e-5}
    for join, expected in (("or", [1]), ("add", [1]), ("and", []), ("iand", [])):
        answer = list(can_go(join, train_rates, test_rates))
        assert answer == expected, f"join {join}: you say {answer}, expected {expected}"

exercise(1, check_can_go, can_go)

# %% [markdown]
# **2.** How many parameters does shortcut k (1, 2 or 3) hold, with IA over channels, in a network of this width? (1x1
# convolution from width 2^(k-1) to width 2^k channels, batch norm, attention with 8 hidden units.)
#
# Hint: three parts: a 1x1 convolution without bias, weight and bias of the norm, and the two matrices of attention.

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

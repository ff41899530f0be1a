# %% [markdown]
# # 10. Train SynA-ResNet21 on digits
#
# After this page you can write the training loop of a spiking network, read the curves that it leaves, and recognise
# a run that has gone wrong by how it looks.
#
# You need: tutorials 4, 7, 8 and 9. Explains: `minisnn/train.py`, `minisnn/optim.py`, `minisnn/models/resnet.py`.
# Paper: Sections III-A and V-C, Tables IX and X.
#
# All parts are there: convolutions, batch norm, neurons, joins, attention. The network shows the image T times, runs
# 20 convolutions and averages the class scores over T. The loss is the mean squared error to the one-hot label, the
# optimizer Adam, and the learning rate falls along a cosine. Three formulas, first in NumPy. Adam divides each entry's slope by
# its running size, so that steep and flat directions move at the same pace; the picture shows what that is good for.

# %%
import contextlib
import math
import tempfile

import matplotlib.pyplot as plt
import numpy as np

import diagrams
import minisnn as snn
from helpers import BLUE, ORANGE, PINK, exercise, save_figure
from minisnn import data, energy, models, nn, ops, optim, train
from minisnn.runs import Run

def mse(scores, labels):
    return np.mean((scores - np.eye(scores.shape[1])[labels]) ** 2)

def adam_step(p, g, m, v, k, lr, b1=0.9, b2=0.999):
    """Step k = 1, 2, ...: running means m of g and v of g^2; each entry moves by about lr, whatever the size of g."""
    m[:] = b1 * m + (1 - b1) * g
    v[:] = b2 * v + (1 - b2) * g**2
    p -= lr * (m / (1 - b1**k)) / (np.sqrt(v / (1 - b2**k)) + 1e-8)  # m and v start at 0: too small at first

def cosine(k, total, lr, warmup):
    fall = lr * (1 + math.cos(math.pi * k / total)) / 2
    return fall * min(1, (k + 1) / (warmup + 1))  # rises first, while Adam's means are young

rng = np.random.default_rng(0)
scores, labels = rng.normal(size=(5, 10)), rng.integers(0, 10, 5)
assert np.isclose(mse(scores, labels), ops.mse_loss(snn.Tensor(scores), ops.one_hot(labels, 10, np.float64)).item())

weight = nn.Parameter(np.array([3.0, -0.001]))
optimizer = optim.Adam([weight], lr=0.1)
schedule = optim.CosineAnnealing(optimizer, total=20, warmup=3)
mine, m, v = weight.data.copy(), np.zeros(2), np.zeros(2)
for k in range(20):
    assert np.isclose(optimizer.lr, cosine(k, 20, 0.1, 3))
    adam_step(mine, 2 * mine, m, v, k + 1, optimizer.lr)
    optimizer.zero_grad()
    (weight * weight).sum().backward()  # gradient: 2 * weight
    optimizer.step()
    schedule.step()
    assert np.allclose(weight.data, mine)

paths = {}
for name in ("plain slope", "Adam"):
    p, m, v, walk = np.array([-9.0, 1.0]), np.zeros(2), np.zeros(2), []
    for k in range(60):
        g = p * np.array([1, 25])  # of (x^2 + 25 y^2) / 2: steep across, flat along
        walk.append(p.copy())
        if name == "Adam":
            adam_step(p, g, m, v, k + 1, lr=0.4)
        else:
            p -= 0.075 * g
    paths[name] = np.array(walk)

fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), gridspec_kw={"width_ratios": [1, 1.6]})
left.plot([cosine(k, 200, 0.01, 20) for k in range(200)], color=BLUE)
left.set(title="Learning rate: warm-up, then a cosine", xlabel="step", ylabel="learning rate")
a, b = np.meshgrid(np.linspace(-10, 2, 100), np.linspace(-1.6, 1.6, 60))
right.contour(a, b, (a**2 + 25 * b**2) / 2, 12, colors="0.8", linewidths=0.8)
for (name, walk), color, marker in zip(paths.items(), (ORANGE, BLUE), "so"):
    right.plot(*walk.T, marker=marker, ms=3, color=color, label=name)
right.set(title="A long valley, 60 steps", xlabel="a flat direction", ylabel="a steep one")
right.legend(fontsize=8, loc="upper right")
save_figure("10_train_syna_resnet21_on_digits_optimizer",
            "Left: the learning rate over 200 steps, a short rise and then the falling half of a cosine. Right: two walks "
            "down a long valley; the plain slope zigzags between its walls, Adam goes at the same pace along both "
            "directions.")

# %% [markdown]
# **The loop.** In training mode batch norm takes the batch's statistics, in evaluation mode the running ones
# (tutorial 7). `Loader` gives shuffled batches x [T, N, C, H, W]. After each epoch we look at test samples that were
# never trained on, and at the firing rate of every layer.

# %%
def fit(net, samples, test, epochs, lr, batch_size=16):
    """Train; return one dictionary per epoch."""
    adam, batches, rows = optim.Adam(net.parameters(), lr=lr), -(-len(samples) // batch_size), []
    schedule = optim.CosineAnnealing(adam, epochs * batches, warmup=batches)
    for epoch in range(epochs):
        net.train()
        loss_sum = right = 0
        for x, labels in data.Loader(samples, batch_size, seed=0, epoch=epoch, shuffle=True):
            scores = net(x)
            loss = ops.mse_loss(scores, ops.one_hot(labels, 10))
            net.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
            loss_sum += loss.item() * len(labels)
            right += (scores.data.argmax(1) == labels).sum()
        found = train.evaluate(net, test)
        rows.append(dict(train_loss=loss_sum / len(samples), train_accuracy=right / len(samples),
                         test_accuracy=found["accuracy"], firing_rate=found["report"].firing_rate,
                         rates=found["report"].rates))
    return rows

# %% [markdown]
# It is what `minisnn train` does; the command adds checkpoints, a progress bar and a folder. One trick of its recipe
# for digits: batch norms start at a weight ("gain") above 1, here 1.5. Their output then has a standard deviation of
# 1.5, tau = 2 halves it, and neurons fire often enough for gradients to reach the first of 20 layers.

# %%
def network(v_threshold=1.0, gain=1.5):
    net = models.build("digits", attention="c", width=8, timesteps=4, seed=0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data[...] = gain
        if isinstance(module, nn.LIF):
            module.options["v_threshold"] = v_threshold
    return net

print(network())

# %%
diagrams.network(network())
save_figure("10_train_syna_resnet21_on_digits_network",
            "The network: image, stem, four features, then three stages. In each stage the input goes through main 1 and main "
            "2, and beside them through the shortcut; both meet in the join, and after 1 and after 2 follow. Maps shrink from "
            "16 x 16 to 2 x 2, channels grow from 8 to 64; a linear layer gives 10 scores.")

# %% [markdown]
# That is the whole network, by the names that every table and figure uses: a stem, four features, three stages, each of a
# main branch, a shortcut, their join and two more layers, and a linear layer. Our loop above and the command's give the
# same numbers:

# %%
digits = data.load("digits", timesteps=4, augment=False)  # 8x8 pixels, enlarged to 16x16, values 0 to 1
print(digits.note)
few = data.limited(digits.train, 64, seed=0)
mine = fit(network(), few, digits.test, epochs=2, lr=0.01)
options = train.Options(model="syna-c", width=8, timesteps=4, epochs=2, batch_size=16, lr=0.01, warmup=1, gain=1.5,
                        loss="mse", optimizer="adam", augment=False, limit=64, recalibrate=0)
with tempfile.TemporaryDirectory() as folder:
    train.train(options, out=f"{folder}/run", progress=False, say=lambda line: None)
    theirs = Run.open(f"{folder}/run").metrics()
for row, other in zip(mine, theirs):
    for name in ("train_loss", "train_accuracy", "test_accuracy", "firing_rate"):
        assert np.isclose(row[name], other[name])

# %% [markdown]
# **A run.** So that this takes seconds, we keep the digits 0 to 3 only, 8 channels in the stem and T = 4. An answer that
# ignores the image and knows only how frequent each class is has the loss that the next cell computes: the line to be below.
# (`minisnn train` by itself takes all ten, more channels and more epochs.)

# %%
part, held_out = (data.Subset(s, np.flatnonzero(s.labels < 4)) for s in (digits.train, digits.test))
frequency = np.bincount(part.labels, minlength=10) / len(part)
nothing = mse(np.tile(frequency, (len(part), 1)), part.labels)
assert round(nothing, 3) == 0.075

net = network()
good = fit(net, part, held_out, epochs=4, lr=0.01)
for row in good:
    print("loss {train_loss:.4f}, train {train_accuracy:.1%}, test {test_accuracy:.1%}".format(**row))
assert good[-1]["train_loss"] < nothing / 2 and good[-1]["test_accuracy"] > 0.8

names = list(good[0]["rates"])
rates = np.array([list(row["rates"].values()) for row in good]).T  # [layers, epochs]
fig, ax = plt.subplots(figsize=(6.5, 4.2))
heat = ax.pcolormesh(np.arange(5) + 0.5, np.arange(21) - 0.5, rates, vmin=0)
ax.set_yticks(range(20), [energy.label(name) for name in names], fontsize=7)
ax.set(title="The good run, layer by layer", xlabel="epoch", xticks=range(1, 5))
ax.invert_yaxis()
fig.colorbar(heat, ax=ax, label="spikes per neuron and step (test set)")
save_figure("10_train_syna_resnet21_on_digits_layers",
            "Firing rate of all 20 layers over the four epochs of the good run, as a map: after the first epoch deep layers "
            "are nearly silent, at the end all fire at a rate of about 0.1, the stem most.")

# %% [markdown]
# **What does it see?** The scores are a mean over the T steps, so there is an answer after each step already. Here is one
# digit on its way through the network, as the share of steps and channels that fire at each place, and what the network would
# answer for the held-out digits if it had to stop early.
#
# **Before you run it:** the network was trained for the mean over four steps. How well does it answer after the first one?

# %%
x, seen = held_out.batch(np.arange(len(held_out))), {}
shown = int(np.flatnonzero(held_out.labels == 3)[0])
watched = {"stem": net.stem, "feature 4": net.features[3], "stage 1": net.stages[0], "stage 2": net.stages[1]}
with contextlib.ExitStack() as stack:
    for name, module in watched.items():
        stack.enter_context(nn.listen(module, lambda _, out, name=name: seen.update({name: out.data[:, shown].mean((0, 1))})))
    by_step = net.eval().steps(x).data  # [T, N, classes]
early = [(by_step[: t + 1].mean(0).argmax(1) == held_out.labels).mean() for t in range(4)]
print("right if stopped after 1, 2, 3 or 4 steps:", *(f"{share:.1%}" for share in early))
assert np.isclose(early[-1], good[-1]["test_accuracy"]) and early[0] < early[-1]

fig, axes = plt.subplots(1, 6, figsize=(12, 2.6), gridspec_kw={"width_ratios": [1, 1, 1, 1, 1, 1.6]})
for ax, (name, picture) in zip(axes, {"image": x[0, shown, 0], **seen}.items()):
    ax.imshow(picture, cmap="gray" if name == "image" else None, vmin=0)
    ax.set(title=name, xticks=[], yticks=[])
for digit, color, dash in zip(range(4), (BLUE, ORANGE, PINK, "0.35"), ("-", "--", ":", "-.")):
    axes[5].plot(range(1, 5), by_step[:, shown, digit].cumsum() / np.arange(1, 5), color=color, ls=dash, marker="o", ms=3,
                 label=f"{digit}")
axes[5].set(title="Mean score so far", xlabel="steps", xticks=range(1, 5))
axes[5].legend(fontsize=8, title="class")
save_figure("10_train_syna_resnet21_on_digits_answer",
            "A three; where neurons of the stem, of feature 4, of stage 1 and of stage 2 fire for it, ever coarser maps; "
            "and its mean score for the classes 0 to 3 after one to four steps, in which the class 3 takes the lead.")

# %% [markdown]
# After one step not much: a neuron has to charge before it fires, and through twenty layers hardly anything has got to the end.
# After two the answer is there; more steps cost more spikes and change little. How many steps a task needs is worth trying.
#
# **What goes wrong, and how it looks.** *Too fast*: Adam and batch norm forgive much, but with a learning rate of 10
# (instead of 0.01) the loss jumps far above the know-nothing line, and the accuracy is that of chance, one in four, or
# less: at times the network answers with digits that it was never shown. *Silent*: with a threshold of 6 no neuron ever
# fires, since tau halves what the batch norm hands on. Then the score is the last layer's bias, whatever the image: the
# loss sinks *to* the line and no further, quietly, with no error message. Only the firing rate tells.
#
# **Before you run it:** one run learns a thousand times too fast, in the other no neuron ever fires. What do their
# losses look like against the line?

# %%
some = data.limited(part, 256, seed=0)
too_fast = fit(network(), some, held_out, epochs=3, lr=10.0)
silent = fit(network(v_threshold=6.0), some, held_out, epochs=3, lr=0.01)
line = "{}: loss {train_loss:.3f}, test accuracy {test_accuracy:.0%}, firing rate {firing_rate:.4f}"
for name, rows in (("too fast", too_fast), ("silent", silent)):
    print(*(line.format(name, **row) for row in rows), sep="\n")
assert max(row["train_loss"] for row in too_fast) > 4 * nothing
assert all(row["test_accuracy"] < 0.35 for row in too_fast) and min(row["test_accuracy"] for row in too_fast) < 0.2
assert all(row["firing_rate"] < 1e-3 for row in silent) and silent[-1]["test_accuracy"] < 0.35
assert nothing < silent[-1]["train_loss"] < 1.2 * nothing

fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8))
runs = ((good, "good", BLUE, "-", "o"), (too_fast, "too fast (lr 10)", ORANGE, "--", "s"),
        (silent, "silent (threshold 6)", PINK, ":", "D"))
for rows, name, color, dash, marker in runs:
    epochs = np.arange(1, len(rows) + 1)
    left.semilogy(epochs, [row["train_loss"] for row in rows], color=color, ls=dash, marker=marker, label=name)
    right.plot(epochs, [100 * row["test_accuracy"] for row in rows], color=color, ls=dash, marker=marker, label=name)
left.axhline(nothing, color="0.3", lw=1, ls="-")
left.text(4.1, nothing * 1.07, "knows nothing", ha="right", fontsize=8)
trained = [100 * row["train_accuracy"] for row in good]
right.plot(np.arange(1, 5), trained, color="0.5", ls="-.", label="good, on the training set")
right.axhline(25, color="0.3", lw=1, ls="-")
right.text(4.1, 27, "chance", ha="right", fontsize=8)
left.set(title="Training loss", xlabel="epoch", ylabel="mean squared error", xticks=range(1, 5))
right.set(title="Test accuracy", xlabel="epoch", ylabel="accuracy (%)", ylim=(0, 103), xticks=range(1, 5))
right.legend(fontsize=8, loc="center right")
save_figure("10_train_syna_resnet21_on_digits",
            "Left: training loss of a good run, one that is too fast, and a silent one, against the line of knowing "
            "nothing; the good one falls far below it, the fast one ends far above it, the silent one on it. Right: their "
            "test accuracies; the good one rises to near 100%, the others stay at chance or below.")

# %% [markdown]
# *The wrong mode*: forget `net.eval()`, and a sample's score depends on who else is in its batch, and each look at
# the test set moves the running statistics. Nothing crashes here either.

# %%
x = held_out.batch(np.arange(8))
net.eval()
assert np.array_equal(net(x).data[:4], net(x[:, :4]).data)
net.train()
assert not np.allclose(net(x).data[:4], net(x[:, :4]).data)

# %% [markdown]
# ## Summary
#
# * A training step: scores, loss, backward, Adam, the next learning rate. An epoch ends with a look at samples that
#   were not trained on.
# * Compare the loss with what an answer scores that ignores the image. A silent network stops at that line, without
#   an error message; the firing rate tells.
# * `net.train()` and `net.eval()` matter: the statistics of batch norm depend on them.
#
# ## Your engine
#
# The last piece is `block`, in `tutorials/mine.py`: a stage of the network out of your own `conv`, `batch_norm`, `attention`,
# `neuron` and `join`, nine lines. `python growing.py 10` gives it the weights of the package's first stage and compares spikes.
#
# ## Further reading
#
# * D. P. Kingma, J. Ba, *Adam: A Method for Stochastic Optimization*,
#   [arXiv:1412.6980](https://arxiv.org/abs/1412.6980).
# * I. Loshchilov, F. Hutter, *SGDR: Stochastic Gradient Descent with Warm Restarts*,
#   [arXiv:1608.03983](https://arxiv.org/abs/1608.03983): the cosine.
# * A. Karpathy, [A Recipe for Training Neural Networks](https://karpathy.github.io/2019/04/25/recipe/) (2019).

# %% [markdown]
# ## Exercises
# **1.** How many samples of each class there are: `counts`. Return the know-nothing loss: the smallest mean squared
# error to the one-hot labels that one answer for all samples can have.
#
# Hint: the best single answer to 0s and 1s is their mean p, and its mean squared error is their variance.

# %%
def know_nothing_loss(counts):
    raise NotImplementedError

def check_know_nothing_loss(know_nothing_loss):
    for counts in ([10, 10], [50, 30, 20], [5] * 10, [7, 0, 3]):
        labels = np.repeat(np.arange(len(counts)), counts)
        best = mse(np.tile(np.array(counts) / sum(counts), (len(labels), 1)), labels)
        mine = know_nothing_loss(np.array(counts))
        assert np.isclose(mine, best), f"counts {counts}: {mine}, not {best}"

exercise(1, check_know_nothing_loss, know_nothing_loss)

# %% [markdown]
# **2.** Read a run: given the training loss of each epoch, the firing rate of each epoch and the know-nothing loss,
# answer "silent" if at the end fewer than one neuron in a thousand fires, whatever the loss; else "learns" if the loss
# ended below the line, and "too fast" if it did not.
#
# Hint: in which order do you ask? A silent network can end on either side of the line.

# %%
def diagnose(losses, firing_rates, nothing):
    raise NotImplementedError

def check_diagnose(diagnose):
    for rows, expected in ((good, "learns"), (too_fast, "too fast"), (silent, "silent")):
        answer = diagnose([row["train_loss"] for row in rows], [row["firing_rate"] for row in rows], nothing)
        assert answer == expected, f"the run that {expected} was called {answer}"
    assert diagnose([0.08, 0.07, 0.05], [0.0, 0.01, 0.03], 0.09) == "learns", "a silent first epoch is no verdict"
    assert diagnose([0.09, 0.09], [0.0, 0.0], 0.09) == "silent", "no spikes at all"
    assert diagnose([0.3, 0.09], [0.1, 0.1], 0.075) == "too fast", "it fires, and ends above the line"
    assert diagnose([0.5, 0.05], [0.1, 0.1], 0.075) == "learns", "a bad first epoch is no verdict"
    assert diagnose([0.2, 0.08], [0.05, 0.0002], 0.075) == "silent", "it has fallen silent, above the line"
    assert diagnose([0.2, 0.07], [0.05, 0.0], 0.075) == "silent", "it has fallen silent, below the line"

exercise(2, check_diagnose, diagnose)

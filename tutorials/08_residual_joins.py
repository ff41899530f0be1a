# %% [markdown]
# # 8. Residual joins: ADD, AND, IAND, OR
#
# After this page you can tell the paper's three residual blocks apart, write the four joins and their gradients, and say
# what a network pays when a join leaves {0, 1}.
#
# You need: tutorials 2, 4 and 6. Explains: `minisnn/ops/residual.py`, the stages in `minisnn/models/resnet.py`. Paper:
# Sections III-C and III-E, Table II.
#
# A deep network is hard to train: each layer bends the signal, and after 20 of them little of the input and little of the
# gradient is left (at the end of this page we measure it). A residual block therefore lets its input pass beside the layers,
# on a *shortcut*, and joins both with a function g. The paper compares three places for g (W1, W2: convolution and batch
# norm; SN: spiking neurons):
#
# $$\begin{aligned}
# \text{vanilla} \quad I_\text{out} &= \text{SN}(g(W_2 \, \text{SN}(W_1 I_\text{in}), I_\text{in})) && \text{(Eq. 4)} \\
# \text{MS} \quad X_\text{out} &= g(W_2 \, \text{SN}(W_1 \, \text{SN}(X_\text{in})), X_\text{in}) && \text{(Eq. 5)} \\
# \text{SEW} \quad I_\text{out} &= g(\text{SN}(W_2 \, \text{SN}(W_1 I_\text{in})), I_\text{in}) && \text{(Eq. 6)}
# \end{aligned}$$
#
# MS is a *membrane shortcut*: what it adds are currents, numbers X, before a neuron has made spikes I of them. SEW is
# *spike-element-wise*: what it joins are spikes.
#
# In the drawing spikes leave the orange boxes. The fourth block is where the course is going: SEW with OR for g, and attention
# (MA and IA, tutorial 9) on both branches. Below, the first three are in NumPy, with matrices in place of convolutions. Each
# also returns what the matrices are multiplied with and what g gets, because that is where they differ.

# %%
import matplotlib.pyplot as plt
import numpy as np

import diagrams
import minisnn as snn
from helpers import BLUE, GREEN, ORANGE, PINK, SN, exercise, numeric_gradient, save_figure
from minisnn import models, ops

diagrams.residual_blocks()
save_figure("08_residual_joins_blocks",
            "Four residual blocks from input to output. Vanilla: W1, SN, W2, g, SN. MS: SN, W1, SN, W2, g, and numbers leave. "
            "SEW: W1, SN, W2, SN, g. In each a shortcut runs from the input to g; only in SEW do spikes meet spikes there. "
            "The fourth is SEW with OR for g, MA after W1, and Ws, IA and SN on the shortcut.")

# %%
def vanilla(x, W1, W2, g):
    hidden = SN(x @ W1)
    joined = hidden @ W2, x
    return SN(g(*joined)), (x, hidden), joined

def ms(x, W1, W2, g):
    first = SN(x)
    hidden = SN(first @ W1)
    joined = hidden @ W2, x
    return g(*joined), (first, hidden), joined

def sew(x, W1, W2, g):
    hidden = SN(x @ W1)
    joined = SN(hidden @ W2), x
    return g(*joined), (x, hidden), joined

# %% [markdown]
# **Four joins** for g (Table II). IAND is *inhibited AND*: the shortcut's spike passes unless the main branch forbids it.

# %%
JOINS = {  # x from the main branch, y from the shortcut; on spikes these formulas *are* the logic
    "add": lambda x, y: x + y,
    "and": lambda x, y: x * y,
    "iand": lambda x, y: (1 - x) * y,  # the shortcut, unless the main branch forbids it
    "or": lambda x, y: (x + y) - x * y,
}
CASES = np.array([(0, 0), (0, 1), (1, 0), (1, 1)], float).T  # x = CASES[0], y = CASES[1]
x, y = CASES.astype(bool)
for name, logic in (("and", x & y), ("iand", ~x & y), ("or", x | y)):
    assert np.array_equal(JOINS[name](*CASES), logic)
assert JOINS["add"](*CASES).tolist() == [0, 1, 1, 2]
for name, g in JOINS.items():
    assert np.array_equal(ops.join(*map(snn.Tensor, CASES), how=name).data, g(*CASES))  # the engine's

# %% [markdown]
# **Who is spike-driven?** A matrix that gets only zeros and ones has nothing to multiply (tutorial 6). In all three
# blocks W1 and W2 see spikes, if the input is spikes (MS blocks hand each other numbers, and pass them through SN first).
# But a bitwise g needs spikes on *both* sides, and only SEW offers that; and only SEW's bitwise joins hand spikes on,
# without a further SN.
#
# **Before you run it:** in which of the blocks do all matrices see spikes only, and from which do spikes leave?

# %%
def is_binary(*arrays):
    return all(np.isin(a, (0, 1)).all() for a in arrays)

rng = np.random.default_rng(0)
x0, found = (rng.random((16, 40)) < 0.3).astype(float), {}  # [T, features]
W1, W2 = rng.normal(0, 0.8, (2, 40, 40))
for block, name in ((vanilla, "add"), (ms, "add"), (sew, "add"), (sew, "or"), (sew, "and"), (sew, "iand")):
    out, seen, joined = block(rng.normal(1, 1, x0.shape) if block is ms else x0, W1, W2, JOINS[name])
    found[block.__name__, name] = is_binary(*seen), is_binary(*joined), is_binary(out)
    print(f"{block.__name__:8} {name:5} matrices see spikes, g joins spikes, spikes leave:", found[block.__name__, name])
assert found["vanilla", "add"] == (True, False, True) and found["ms", "add"] == (True, False, False)
assert found["sew", "add"] == (True, True, False) and all(all(found["sew", name]) for name in ("or", "and", "iand"))

# %% [markdown]
# After SEW with ADD nothing catches the 2s: the next convolution must multiply. The engine notices: a ledger (it counts
# additions, AC, and products with additions, MAC, while it is open) shows only MAC after ADD, and only AC after the
# others.
#
# **Before you run it:** both branches fire at a rate of 0.1, so a 2 is rare: one entry in a hundred. How much of the
# convolution after an ADD join has to multiply?

# %%
main, short = (snn.Tensor(rng.random((4, 2, 8, 6, 6)) < 0.1) for _ in range(2))  # [T, N, C, H, W], spikes
w = snn.Tensor(rng.normal(size=(8, 8, 3, 3)).astype(np.float32))
counts = {}
for name in JOINS:
    joined = ops.join(main, short, how=name)
    assert joined.is_spikes == (name != "add") and joined.data.max() == (2 if name == "add" else 1)
    with snn.ledger.ledger() as entries:
        ops.conv2d(joined, w, padding=1)
    counts[name] = sum(e.ac for e in entries), sum(e.mac for e in entries)
    print(f"{name:5} AC {counts[name][0]:9,}   MAC {counts[name][1]:9,}")
assert all(mac == 0 for name, (ac, mac) in counts.items() if name != "add")
assert counts["add"][0] == 0 and counts["add"][1] > 4 * counts["or"][0]

# %% [markdown]
# **Does the input get through?** Let the main branch be silent, as it is where a block has nothing to add. A good join
# then hands the shortcut on unchanged. ADD, OR and IAND do; AND blocks everything. Vanilla fails for another reason: its
# last SN asks for u >= 1, and a single spike charges a resting neuron with tau = 2 to 1/2 only.
#
# **Before you run it:** the main branch is silent. Through which joins does the shortcut get unchanged?

# %%
for name, g in JOINS.items():
    assert np.array_equal(g(0 * x0, x0), x0 if name != "and" else 0 * x0)
lone = np.array([[0], [0], [1], [0], [0]], float)  # [T, 1]
assert SN(JOINS["add"](0 * lone, lone)).sum() == 0  # vanilla with a silent main branch: the spike is lost

# %% [markdown]
# **Gradients.** Each formula is a polynomial, so its derivatives are read off:
#
# $$\begin{aligned}
# \text{ADD:} \quad dx &= d & dy &= d \\
# \text{AND:} \quad dx &= d \, y & dy &= d \, x \\
# \text{IAND:} \quad dx &= -d \, y & dy &= d \, (1 - x) \\
# \text{OR:} \quad dx &= d \, (1 - y) & dy &= d \, (1 - x)
# \end{aligned}$$
#
# (d: gradient of the output). And since each is *linear* in x, the derivative with respect to x is exactly what flipping
# that spike changes, g(1, y) - g(0, y): nothing is approximated here. Under OR the main branch learns only where the
# shortcut is silent: a second spike at the same place would change nothing. Where both fired neither gets a gradient, since
# neither alone made a difference.

# %%
def join_gradients(x, y, d, name):
    return {"add": (d, d), "and": (d * y, d * x), "iand": (-d * y, d * (1 - x)), "or": (d * (1 - y), d * (1 - x))}[name]

for name, g in JOINS.items():
    x, y = (snn.Tensor(c, requires_grad=True) for c in CASES)
    ops.join(x, y, how=name).backward(np.ones(4))
    assert np.array_equal((x.grad, y.grad), join_gradients(*CASES, np.ones(4), name))
    assert np.array_equal((x.grad, y.grad), (g(1, CASES[1]) - g(0, CASES[1]), g(CASES[0], 1) - g(CASES[0], 0)))  # the flip
    a, b = (snn.Tensor(rng.normal(size=(3, 4)), requires_grad=True) for _ in range(2))
    assert snn.gradcheck(lambda a, b: ops.join(a, b, how=name), (a, b))  # polynomials hold between 0 and 1 too

ones, (fig, axes) = np.ones(4), plt.subplots(1, 3, figsize=(8.5, 3))
tables = [[g(*CASES) for g in JOINS.values()], *zip(*(join_gradients(*CASES, ones, name) for name in JOINS))]
for ax, table, title in zip(axes, tables, ("value g(x, y)", "gradient to x, main", "gradient to y, shortcut")):
    ax.pcolormesh(np.array(table), vmin=-1, vmax=2, edgecolor="white")
    for (i, j), v in np.ndenumerate(table):
        ax.text(j + 0.5, i + 0.5, f"{v + 0:g}", ha="center", va="center", color="black" if v > 0.5 else "white")
    ax.set_xticks(np.arange(4) + 0.5, ["0 0", "0 1", "1 0", "1 1"])
    ax.set_yticks(np.arange(4) + 0.5, [name.upper() for name in JOINS] if ax is axes[0] else [""] * 4)
    ax.set(title=title, xlabel="x y", ylim=(4, 0))
save_figure("08_residual_joins_tables",
            "Three tables for the four cases of two spikes: the value of ADD, AND, IAND and OR, and the gradients to the "
            "main branch and to the shortcut. Only ADD has a value of 2; only IAND has a gradient of -1.")

# %% [markdown]
# **In depth.** Put K blocks in a row, each with a main branch that fires at random at rate p = 0.1 beside an
# input of rate 0.2. Along the shortcuts the share of the gradient that survives is 1 for ADD, (1-p)^K for OR and IAND,
# p^K for AND. The values: ADD climbs without end, OR levels off at 1 (it is the probability of "any of them"), IAND and
# AND fade. So OR keeps the gradient *and* the binary signal, if its main branches fire rarely. The paper's attention
# (tutorial 9) is there for that.

# %%
K, p, r, n = 12, 0.1, 0.2, np.arange(13)
mains = rng.random((K, 200_000)) < p
start = snn.Tensor(rng.random(200_000) < r, requires_grad=True)
values, gradients = ({name: [] for name in JOINS} for _ in range(2))
for name in JOINS:
    z = start
    for k in range(K + 1):
        values[name].append(z.data.mean())
        start.zero_grad()
        z.sum().backward(retain_graph=True)  # the tape is needed again for the next k
        gradients[name].append(start.grad.mean())
        z = ops.join(snn.Tensor(mains[k]), z, how=name) if k < K else z
for name in JOINS:
    print(f"{name:5} after {K} joins: mean value {values[name][-1]:.3f}, share of the gradient {gradients[name][-1]:.3f}")
assert np.allclose(gradients["add"], 1) and np.allclose(gradients["or"], gradients["iand"])
assert np.allclose(gradients["or"], (1 - p) ** n, atol=5e-3) and np.allclose(gradients["and"], p**n, atol=5e-3)
assert np.allclose(values["or"], 1 - (1 - r) * (1 - p) ** n, atol=5e-3) and np.allclose(values["add"], r + n * p, atol=5e-3)

fig, axes = plt.subplots(1, 2, figsize=(9, 3.6))
for ax, curves, title in zip(axes, (values, gradients), ("Mean value after K joins", "Gradient left at the input")):
    for name, color, dash, marker in zip(JOINS, (ORANGE, PINK, GREEN, BLUE), ("--", ":", "-.", "-"), "s^Do"):
        ax.plot(n, curves[name], color=color, ls=dash, marker=marker, ms=4, markevery=(name == "iand", 2), label=name.upper())
    ax.set(title=title, xlabel="number of joins K", ylabel="value, or share of the gradient", ylim=(-0.05, 1.5))
    ax.legend(fontsize=8)
save_figure("08_residual_joins",
            "Over 12 joins: the mean value, where ADD climbs, OR levels off at 1, IAND and AND fade; and the share of the "
            "gradient that is left, 1 for ADD, falling slowly for OR and IAND, at once for AND.")

# %% [markdown]
# **With layers.** The same with matrices and neurons (tutorial 4's gradient), 12 layers in a row: once plain, each layer fed by
# the one before, once with a shortcut that OR joins to each layer's spikes. How large is the gradient at the input?
#
# **Before you run it:** by what factor do the two differ after twelve layers: ten, a thousand, a million?

# %%
def gradient_size(shortcut, depth=12, width=60):
    rng = np.random.default_rng(3)
    x = start = snn.Tensor(rng.random((8, 16, width)) < 0.2, dtype="float64", requires_grad=True)  # [T, N, features]
    for _ in range(depth):
        weight = snn.Tensor(rng.normal(0.0, 0.35, (width, width)))
        main = ops.lif(x @ weight)
        x = ops.join(main, x) if shortcut else main
    x.backward(rng.normal(size=x.shape))
    return np.sqrt((start.grad**2).mean()), x.data.mean()

for shortcut in (False, True):
    (size, rate), name = gradient_size(shortcut), "OR shortcuts" if shortcut else "plain"
    print(f"{name:12} the gradient at the input is {size:.1e}, the last layer fires at {rate:.2f}")
    assert (size > 0.1) == shortcut == (rate > 0.5)

# %% [markdown]
# More than a million: without shortcuts the spikes have died out on the way, and with them the gradient. With them the
# gradient gets through, but look at the rate. An OR can only add spikes, so after twelve joins nearly everything fires, which
# costs energy and says little. Main branches should fire rarely, and shortcuts only where they are needed.
#
# **In the network.** Every shortcut of SynA-ResNet21 halves the map, so it is not the bare input but a 1x1 convolution of
# stride 2 with batch norm and neurons. A stage of the engine is Eq. 6 with two more units (convolution, norm, neurons)
# after it; taken apart and joined by hand it gives the same spikes. (`residual="vanilla"` and `"ms"` build the other two.)

# %%
x = snn.Tensor(rng.random((4, 2, 8, 8, 8)) < 0.3)
for residual in ("or", "add", "and", "iand", "vanilla"):
    stage = models.build("digits", residual=residual, width=8, timesteps=4, seed=1).stages[0]
    main, short = stage.main(x).data, stage.shortcut(x).data  # [4, 2, 16, 4, 4]
    joined = SN(JOINS["add"](main, short)) if residual == "vanilla" else JOINS[residual](main, short)
    assert np.array_equal(stage(x).data, stage.after(snn.Tensor(joined)).data), residual
    assert is_binary(main, short) == (residual != "vanilla")

# %% [markdown]
# ## Summary
#
# * Three residual blocks differ in where the shortcut joins; only SEW joins spikes with spikes.
# * ADD leaves {0, 1}: its 2s make the next convolution multiply. AND, IAND and OR are polynomials that stay binary.
# * Because they are linear in each input, their gradients are exactly what flipping a spike changes.
# * OR hands the shortcut on unchanged where the main branch is silent, and keeps most of the gradient as long as main
#   branches fire rarely.
#
# ## Your engine
#
# Add `join` and `join_backward` to `tutorials/mine.py`: OR and its two gradients, one line each. `python growing.py 8` checks
# them.
#
# ## Further reading
#
# * K. He et al., *Deep Residual Learning for Image Recognition*,
#   [arXiv:1512.03385](https://arxiv.org/abs/1512.03385).
# * W. Fang et al., *Deep Residual Learning in Spiking Neural Networks*, NeurIPS 2021,
#   [arXiv:2102.04159](https://arxiv.org/abs/2102.04159): SEW.
# * Y. Hu et al., *Advancing Spiking Neural Networks towards Deep Residual Learning*,
#   [arXiv:2112.08954](https://arxiv.org/abs/2112.08954): MS.

# %% [markdown]
# ## Exercises
# **1.** Join three branches: out = x OR y OR z, 1 unless all three are silent. Return the three gradients, given the
# gradient d of the output.
#
# Hint: out = 1 - (1 - x)(1 - y)(1 - z). Hold y and z fixed: when does x matter?

# %%
def or3_gradients(x, y, z, d):
    raise NotImplementedError

def check_or3_gradients(or3_gradients):
    cases = np.array(list(np.ndindex(2, 2, 2)), float).T  # [3, 8]: all cases
    d = np.arange(1.0, 9.0)
    expected = numeric_gradient(lambda c: np.sum(d * (1 - (1 - c[0]) * (1 - c[1]) * (1 - c[2]))), cases)
    for name, mine, right in zip("xyz", or3_gradients(*cases, d), expected):
        assert np.allclose(mine, right, atol=1e-6), f"gradient to {name}: {mine}, not {right.round(6)}"

exercise(1, check_or3_gradients, or3_gradients)

# %% [markdown]
# **2.** Any rule for two spikes is a polynomial a + b x + c y + e x y. Given the rule's four values, return a, b, c, e.
# (Try it on XOR, and read off XOR's gradient.)
#
# Hint: set x = y = 0 first, then let one of them be 1, then both.

# %%
def polynomial(g00, g01, g10, g11):  # g01: the value at x = 0, y = 1
    raise NotImplementedError

def check_polynomial(polynomial):
    for table in np.ndindex(2, 2, 2, 2):  # all 16 rules
        a, b, c, e = polynomial(*table)
        x, y = CASES
        assert np.array_equal(a + b * x + c * y + e * x * y, table), f"wrong for the rule {table}"

exercise(2, check_polynomial, polynomial)

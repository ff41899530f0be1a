"""Spikes, operations and energy of one inference (Section IV): measured on a network, or counted as the published scripts do.

Axes: T time steps, N batch, C channels, H height, W width; k side of a kernel, w width of the network.
Symbols: AC accumulations (a weight added for a spike), MAC multiply-accumulates, fr firing rate: spikes per neuron and step.

    E_total = E_MAC * FL_conv^1 + E_AC * (sum over n = 2..N of FL_conv^n * fr^n + sum over m of FL_fc^m * fr^m)     (Eq. 11)

``measure`` counts the products FL * fr as they happen; ``published`` estimates them from firing rates. All figures are per
sample, over all T steps. Energy is for 45 nm hardware, by default 4.6 pJ per MAC (3.7 multiply, 0.9 add) and 0.9 pJ per AC.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from . import ledger, parallel
from .catalogue import CATALOGUE
from .engine import Tensor
from .ledger import E_AC, E_MAC
from .models import RESIDUALS, SHORTCUTS, Config, ResNet21
from .models.presets import LAST, label
from .nn import Module, evaluating, listen
from .ops.attention import DIMENSIONS

__all__ = ["measure", "published", "published_of", "Report", "Layer", "E_MAC", "E_AC", "label"]

NORM, POOL = "batch norm", "max pool"  # rows that sum over all layers of their kind
MJ_PER_PJ = 1e-9


@dataclasses.dataclass
class Layer:
    """One row of a report; all counts per sample, over all time steps."""

    name: str  # dotted name within the network: "stages.0.main.1"; see ``label``
    kind: str  # "conv" (with its neurons), "linear", "attention", "norm", "pool", or for neurons alone their operation: "lif"
    firing_rate: float | None = None  # spikes per neuron and step; None if there are no neurons
    neurons: float = 0.0  # C * H * W
    spikes: float = 0.0
    ac: float = 0.0
    mac: float = 0.0
    energy_mj: float = 0.0
    share: float = 0.0  # of the energy, 0 to 1
    unknown: bool = False  # whether an operation did not say what it does: ac, mac and energy are what the others did


@dataclasses.dataclass
class Report:
    """Spikes, AC, MAC and energy per sample; ``print(report)`` shows the table."""

    accounting: str  # "measured" or "published"
    timesteps: int  # T
    samples: int  # over which the counts were averaged; 0 if they were estimated
    layers: list
    joined_rates: list = dataclasses.field(default_factory=list)  # firing rate after each stage's join
    e_mac: float = E_MAC  # pJ
    e_ac: float = E_AC  # pJ

    spikes = property(lambda self: sum(row.spikes for row in self.layers))
    ac = property(lambda self: sum(row.ac for row in self.layers))
    mac = property(lambda self: sum(row.mac for row in self.layers))
    energy_mj = property(lambda self: sum(row.energy_mj for row in self.layers))
    attention_mac = property(lambda self: sum(row.mac for row in self.layers if row.kind == "attention"))
    neurons = property(lambda self: sum(row.neurons for row in self.layers if row.kind != "attention"))

    @property
    def spikes_per_neuron(self) -> float:
        """Spikes that a neuron of the LIF layers emits per sample, over all steps (IA's neurons are omitted)."""
        return sum(row.spikes for row in self.layers if row.kind != "attention") / max(self.neurons, 1)

    @property
    def firing_rate(self) -> float:
        """Spikes per neuron and step, over all LIF layers."""
        return self.spikes_per_neuron / self.timesteps

    @property
    def rates(self) -> dict[str, float]:
        """{dotted name: firing rate} of the LIF layers, in the order in which they fire."""
        return {row.name: row.firing_rate for row in self.layers if row.firing_rate is not None and row.kind != "attention"}

    @property
    def unknown(self) -> list[str]:
        """Names of the layers with operations that do not say what they do, and of which the totals know nothing."""
        return [row.name for row in self.layers if row.unknown]

    @property
    def silent_shortcuts(self) -> list[int]:
        """Numbers (from 1) of the shortcuts without a single spike."""
        return [k for k in SHORTCUTS if self.rates.get(f"stages.{k - 1}.shortcut") == 0]

    def as_dict(self) -> dict[str, Any]:
        """The whole report, ready for JSON."""
        totals = (
            "accounting",
            "timesteps",
            "samples",
            "e_mac",
            "e_ac",
            "spikes",
            "ac",
            "mac",
            "attention_mac",
            "energy_mj",
            "neurons",
            "spikes_per_neuron",
            "firing_rate",
            "joined_rates",
        )
        return {name: getattr(self, name) for name in totals} | {
            "unknown": self.unknown,
            "layers": [dataclasses.asdict(row) | hidden(row) for row in self.layers],
        }

    def rows(self) -> list[list[str]]:
        """The table as lists of text: a header, a row for each layer, the total."""
        head = ["layer", "kind", "firing rate", "spikes", "AC", "MAC", "share", "energy"]
        rows = [
            [
                label(r.name),
                r.kind,
                "" if r.firing_rate is None else f"{r.firing_rate:.4f}",
                count(r.spikes),
                known(count(r.ac), r),
                known(count(r.mac), r),
                f"{r.share:.1%}",
                known(f"{r.energy_mj:.3g} mJ", r),
            ]
            for r in self.layers
        ]
        more = " + ?" if self.unknown else ""
        total = [
            "total",
            "",
            f"{self.firing_rate:.4f}",
            count(self.spikes),
            count(self.ac) + more,
            count(self.mac) + more,
            "100.0%",
            f"{self.energy_mj:.4g} mJ" + more,
        ]
        return [head, *rows, total]

    def __str__(self):
        rows = self.rows()
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(w) if k < 2 else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths))).rstrip()
            for row in rows
        ]
        rule = "-" * sum(widths, 2 * len(widths) - 2)
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def hidden(row):
    """In JSON, None for the counts of a row of which nothing is known."""
    return {} if not row.unknown or row.ac or row.mac else dict(ac=None, mac=None, energy_mj=None, share=None)


def known(text, row):
    """A cell of a row that may have operations of which nothing is known."""
    if not row.unknown:
        return text
    return f"{text} + ?" if row.ac or row.mac else "unknown"


def count(n):
    """A count per sample as text: 836, 12.35 K, 671.82 M; nothing for 0."""
    if n == 0:
        return ""
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if n >= size:
            return f"{n / size:.2f} {unit}"
    return f"{n:.4g}"


def batches(x):
    """An array or Tensor [T, N, C, H, W] as the only batch; otherwise each item, or its first element if it is a tuple."""
    if isinstance(x, (Tensor, np.ndarray)):
        yield x
        return
    for item in x:
        yield item[0] if isinstance(item, (tuple, list)) else item


def price(rows, e_mac, e_ac):
    """Fill in each row's energy, if it has none yet, and its share."""
    for row in rows:
        row.energy_mj = row.energy_mj or (row.mac * e_mac + row.ac * e_ac) * MJ_PER_PJ
    total = sum(row.energy_mj for row in rows)
    for row in rows:
        row.share = row.energy_mj / total if total else 0.0


def measure(
    net: Module, x: Any, e_mac: float = E_MAC, e_ac: float = E_AC, fold_norm: bool = False, shared: bool = False
) -> Report:
    """Spikes, operations and energy per sample that ``net`` actually spends on ``x``, in evaluation mode.

    Eq. 11 (in the module docstring) with counts instead of estimates: an addition is an AC if a layer adds a weight
    for a spike, so nothing is counted beyond the borders; a product is a MAC if the input holds numbers: in the
    first layer, after an ADD join that reached 2, in the linear layer after the average pool. Attention adds every entry once
    for its mean (AC), multiplies it by its score in MA (MAC), and is charged for its small layers (MAC). Batch norm scales and
    shifts each entry (MAC), in a row of its own since hardware can fold it into the weights. Not counted, as in the paper: the
    neurons' own arithmetic, joins, pools, comparisons, elementary operations other than ``matmul``. What a Function of your own
    does is unknown, unless it records it (``ledger.record``): its row and the total say so.

    Args:
        net: a network of ``models.build``, or any Module.
        x: [T, N, C, H, W] (or whatever the Module takes, with leading axes T and N), array or Tensor; or batches of it, each
            alone or as the first element of a tuple.
        e_mac, e_ac: energy of one MAC, of one AC, pJ.
        fold_norm: omit batch norm, as folded into the weights.
        shared: ``x`` is this rank's share (parallel.py), and the report that of all ranks, the same one on each.

    Returns:
        Report.

    Raises:
        ValueError: there are no samples, their numbers of time steps differ, or there are fewer than two axes.
    """
    net.name_parts()
    parameters = net.parameters()
    dtype = parameters[0].dtype if parameters else None
    stages: Iterable[Any] = net.stages if isinstance(net, ResNet21) else ()
    rows: dict[str, Layer] = {}
    steps: dict[str, int] = {}  # neuron-steps by layer
    fired: dict[int, list[int]] = {}  # spikes and entries by stage
    samples = timesteps = 0
    with contextlib.ExitStack() as stack:
        for k, stage in enumerate(stages):
            stack.enter_context(listen(stage.join, functools.partial(join_spikes, fired, k)))
        stack.enter_context(evaluating(net))
        for batch in batches(x):
            if np.ndim(batch) < 2:
                raise ValueError(f"measure got an input of shape {np.shape(batch)}; give [T, N, ...]")
            if timesteps not in (0, batch.shape[0]):
                raise ValueError(f"a batch has {batch.shape[0]} time steps, the previous one {timesteps}")
            timesteps, samples = batch.shape[0], samples + batch.shape[1]
            with ledger.ledger() as entries:
                net(batch if isinstance(batch, Tensor) else Tensor(batch, dtype=dtype))
            for entry in entries:
                add_entry(rows, steps, entry, fold_norm)
    if shared:
        rows, steps, fired, samples, timesteps = of_all_ranks(rows, steps, fired, samples, timesteps)
    if not samples:
        raise ValueError("there is nothing to measure: no samples")
    for name, row in rows.items():
        row.spikes, row.ac, row.mac = row.spikes / samples, row.ac / samples, row.mac / samples
        if name in steps:
            row.firing_rate = row.spikes * samples / steps[name]
            row.neurons = steps[name] / samples / timesteps
    ordered = [row for row in rows.values() if row.kind != "norm"] + [row for row in rows.values() if row.kind == "norm"]
    price(ordered, e_mac, e_ac)
    rates = {row.name: row.firing_rate for row in ordered}
    joined = [fired[k][0] / fired[k][1] if k in fired else rates.get(f"stages.{k}.main.1") for k, _ in enumerate(stages)]
    return Report("measured", timesteps, samples, ordered, joined, e_mac, e_ac)


def of_all_ranks(*own):
    """(rows, steps, fired, samples, timesteps) of all ranks; what is counted is whole, so that no rounding depends on them."""
    (rows, steps, fired, samples, timesteps), *others = parallel.gathered(own)
    for more_rows, more_steps, more_fired, more_samples, T in others:
        for name, row in more_rows.items():
            mine = rows.setdefault(name, Layer(name, row.kind))
            mine.spikes, mine.ac, mine.mac = mine.spikes + row.spikes, mine.ac + row.ac, mine.mac + row.mac
        for name, count in more_steps.items():
            steps[name] = steps.get(name, 0) + count
        for k, (total, entries) in more_fired.items():
            before = fired.get(k, (0, 0))
            fired[k] = before[0] + total, before[1] + entries
        samples, timesteps = samples + more_samples, timesteps or T
    return rows, steps, fired, samples, timesteps


def join_spikes(fired, k, inputs, out):
    """Add the output of the join of stage k to ``fired``: {k: (sum, entries)}."""
    total, entries = fired.get(k, (0, 0))
    fired[k] = total + float(out.storage.sum(dtype=np.float64)), entries + out.size


def add_entry(rows, steps, entry, fold_norm):
    """Add a ledger's entry to the row that it belongs to; neuron-steps go to ``steps``."""
    if entry.kind == "norm":
        if not fold_norm:
            rows.setdefault(NORM, Layer(NORM, "norm")).mac += entry.mac
        return
    name = entry.layer or entry.op
    row = rows.setdefault(name, Layer(name, entry.op if entry.kind == "neurons" else entry.kind))
    row.unknown |= entry.kind == "unknown"
    if entry.kind == "conv":  # whose neurons may have come first
        row.kind = "conv"
    row.spikes += entry.spikes
    row.ac += entry.ac
    row.mac += entry.mac
    if entry.neurons:
        steps[name] = steps.get(name, 0) + entry.neurons


# ---- the published scripts -------------------------------------------------------------------------------------------

UNITS = [
    "stem",
    *(f"features.{k}" for k in range(4)),
    *(f"stages.{s}.{part}" for s in range(3) for part in ("main.0", "main.1", "shortcut", "after.0", "after.1")),
]


def published(
    preset: str,
    timesteps: int,
    firing_rates: Sequence[float],
    joined_rates: Sequence[float],
    pruned: Sequence[int] = (),
    width: int = 64,
    residual: str = "or",
    attention: str | None = None,
    position: str = "a",
    ma: bool = True,
    ia: bool = True,
    ia_rates: Sequence[float] | None = None,
    size: int | None = None,
    e_mac: float = E_MAC,
    e_ac: float = E_AC,
) -> Report:
    """Spikes, operations and energy per sample as the authors' scripts count them, from firing rates.

    Eq. 11 (in the module docstring) with these rules, quirks included:

    * first convolution: MAC, (Cin k^2 - 1) Hout Wout Cout T; every other: AC, the same times its input's firing rate.
      The "- 1" (one product starts each sum) also drops an addition if the sum starts from a bias or from zero.
    * every output is charged as if it were far from the border.
    * a shortcut's convolution is charged the rate of the layer before it in the list, the second of the main branch,
      instead of the rate of its own input.
    * max pool: AC, Hout Wout C k^2 T, though it compares and does not add. The layer after the pool is charged the rate
      before the pool.
    * batch norm: MAC, C H W T after each convolution.
    * energy = (E_MAC - E_AC) * mult + E_AC * add with mult = MAC + 8w * classes * T and add = MAC + AC + (8w)^2 * T: the linear
      layer adds 512 * 512 times per step at width 64. It is in the energy, but in neither printed count.
    * attention's products are in the printed MAC and cost no energy: (T - 1) h + (h - 1) T with h = T / 4 in T,
      (C - 1) C / 8 + (C / 8 - 1) C in C, (2 k^2 - 1) H W in S, per module; its pools and its scaling are not counted.
      (The published DVS Gesture row of SynA-S counts the modules of position "d" for a network of position "b".)
    * after an ADD join the next convolution is MAC in full, not times a rate.

    One thing is not followed: the DVS Gesture script gives the second convolution of 512 channels a map of 8x8 where
    it is 4x4, which raises that row from 671.82 M to 837.03 M AC and from 4.474 mJ to 4.626 mJ, and each row by 0.79 M MAC.

    Args:
        preset: "dvsgesture", "cifar10dvs", "mnist", ... as for ``models.build``.
        timesteps: T.
        firing_rates: of the 20 LIF layers: stem; 4 features; per stage main 1, main 2, shortcut, after 1, after 2.
            Spikes per neuron and step, 0 to 1; the entry of a pruned shortcut is ignored.
        joined_rates: of the 3 stages, after the join.
        pruned: numbers (from 1) of the removed shortcuts.
        width: w.
        residual: "or", "and", "iand", "add", or "none" (all shortcuts pruned).
        attention, position, ma, ia: whose modules to add to the printed MAC, as for ``models.build``; None for none.
        ia_rates: firing rates of IA's own neurons in the 3 stages, whose spikes are then counted.
        size: side of the input; by default that of the preset.
        e_mac, e_ac: pJ.

    Returns:
        Report. ``.mac`` includes attention's products if ``attention`` is given; ``.attention_mac`` is their share.

    Raises:
        ValueError: an unknown preset, a network that the scripts do not cover (vanilla, MS), or a number out of range.
    """
    join = RESIDUALS.get(residual)
    if join is None or join.neurons != LAST:
        raise ValueError(f"the published scripts have no network with residual {residual!r}; use the measured accounting")
    Config(preset, residual, attention, position, width, timesteps)  # reports what is out of range
    gone = set(SHORTCUTS) if join.join is None else set(pruned)
    if not gone <= set(SHORTCUTS):
        raise ValueError(f"pruned is {sorted(gone)}; the shortcuts are numbered 1, 2 and 3")
    for what, rates, n in (("firing_rates", firing_rates, 20), ("joined_rates", joined_rates, 3), ("ia_rates", ia_rates, 3)):
        if rates is not None and len(rates) != n:
            raise ValueError(f"{what} has {len(rates)} numbers; give {n}")
    stem, T, w = CATALOGUE[preset].stem, timesteps, width
    rate = {name: float(r) for name, r in zip(UNITS, firing_rates)} | {f"stages.{k - 1}.shortcut": 0.0 for k in gone}
    for what, rates, top in (
        ("firing_rates", list(rate.values()), 1),
        ("joined_rates", joined_rates, 2),  # ADD joins 1 + 1
        ("ia_rates", () if ia_rates is None else ia_rates, 1),
    ):
        if not all(0 <= r <= top for r in rates):
            raise ValueError(f"{what} is {[*map(float, rates)]}; give spikes per neuron and step, from 0 to {top}")
    rows: list[Layer] = []
    norm = Layer(NORM, "norm")

    def conv(name, cin, cout, k, side, full=False, input_rate=0.0):
        """One convolution with output [cout, side, side], its batch norm and its neurons."""
        products = (cin * k * k - 1) * side * side * cout * T
        neurons = cout * side * side
        norm.mac += neurons * T
        rows.append(
            Layer(
                name,
                "conv",
                rate[name],
                neurons,
                spikes=rate[name] * T * neurons,
                mac=products if full else 0.0,
                ac=0.0 if full else products * input_rate,
            )
        )

    def attend(name, channels, side, k=3, own_rate=None):
        """One attention module; ``own_rate`` for IA, whose neurons fire."""
        dimension, pixels = DIMENSIONS[str(attention)], side * side
        rows.append(
            Layer(
                f"{name}.attention",
                "attention",
                own_rate,
                0.0,
                (own_rate or 0.0) * dimension.places(T, pixels, channels),
                mac=dimension.published_products(T, pixels, channels, k),
            )
        )

    side = stem.pool_first or size or stem.size
    side = (side + 2 * (stem.kernel // 2) - stem.kernel) // stem.stride + 1
    conv("stem", stem.channels, w, stem.kernel, side, full=True)
    if stem.max_pool:
        side = (side + 2 - 3) // 2 + 1
        rows.append(Layer(POOL, "pool", ac=side * side * w * 9 * T))
    has_ma, second = attention is not None and ma, position in "bd"
    before = rate["stem"]
    for k in range(4):
        conv(f"features.{k}", w, w, 3, side, input_rate=before)
        if has_ma and (k % 2 == 1) == second:
            attend(f"features.{k}", w, side, stem.space_kernel)
        before = rate[f"features.{k}"]
    for s in range(3):
        cin, c, side, at = w << s, 2 * w << s, (side + 2 - 3) // 2 + 1, f"stages.{s}"
        conv(f"{at}.main.0", cin, c, 3, side, input_rate=before)
        conv(f"{at}.main.1", c, c, 3, side, input_rate=rate[f"{at}.main.0"])
        if has_ma:
            attend(f"{at}.main.{int(second)}", c, side)
        if s + 1 not in gone:
            conv(f"{at}.shortcut", cin, c, 1, side, input_rate=rate[f"{at}.main.1"])
            if attention is not None and ia:
                attend(f"{at}.shortcut", c, side, own_rate=None if ia_rates is None else float(ia_rates[s]))
        conv(f"{at}.after.0", c, c, 3, side, full=join.adds and s + 1 not in gone, input_rate=float(joined_rates[s]))
        conv(f"{at}.after.1", c, c, 3, side, input_rate=rate[f"{at}.after.0"])
        if has_ma and position in "ab":
            attend(f"{at}.after.{int(second)}", c, side)
        before = rate[f"{at}.after.1"]
    linear = Layer("head", "linear")
    linear.energy_mj = ((e_mac - e_ac) * 8 * w * stem.classes + e_ac * (8 * w) ** 2) * T * MJ_PER_PJ
    rows += [linear, norm]
    free = [row for row in rows if row.kind == "attention"]
    price([row for row in rows if row not in free], e_mac, e_ac)
    return Report("published", T, 0, rows, [float(r) for r in joined_rates], e_mac, e_ac)


def published_of(net: Module, measured: Report, **options: Any) -> Report:
    """``published`` for a network of ``models.build``, with the firing rates of a measured run.

    Args:
        net: the network.
        measured: what ``measure`` returned for it.
        **options: further arguments of ``published`` (size, e_mac, e_ac).

    Raises:
        ValueError: the scripts do not cover the network.
    """
    if not isinstance(net, ResNet21):
        raise ValueError("the published scripts count the networks of the paper only, not those without maps")
    c = net.config
    rates, all_rates = measured.rates, {row.name: row.firing_rate for row in measured.layers}
    pruned = [k for k in SHORTCUTS if net.stages[k - 1].shortcut is None]
    ia_rates = [all_rates.get(f"stages.{s}.shortcut.attention") or 0.0 for s in range(3)]
    return published(
        c.preset,
        measured.timesteps,
        [rates.get(name, 0.0) for name in UNITS],
        measured.joined_rates,
        pruned,
        c.width,
        c.residual,
        c.attention,
        c.position,
        c.ma,
        c.ia,
        **{"ia_rates": ia_rates if c.attention and c.ia else None, "e_mac": measured.e_mac, "e_ac": measured.e_ac} | options,
    )

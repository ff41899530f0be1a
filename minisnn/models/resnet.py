"""The residual spiking networks of the paper: 20 convolutions, 1 linear layer, one plan (Table IX).

    stem -> 4 units -> 3 stages (main branch JOIN shortcut, then 2 units) -> global average pool -> linear -> mean over T

A unit is conv, batch norm, [attention], neurons (LIF). Axes of activations: [T, N, C, H, W]; w is the width.

    SEW joins      out = g(SN(W2 SN(W1 in)), SN(Ws in))                                   (Eq. 6)
    vanilla        out = SN(g(W2 SN(W1 in), Ws in))                                       (Eq. 4)
    MS             out = g(W2 SN(W1 SN(in)), Ws SN(in))                                   (Eq. 5)

with g the join of Table II. The paper prints the identity as the shortcut; every shortcut of this plan halves the map, so it
is a 1x1 convolution of stride 2 with batch norm, Ws. The published code contains neither a vanilla nor an MS network: these
two are built from their equations on the same plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import nn, ops
from ..catalogue import CATALOGUE
from ..engine import Tensor, generator
from ..ops.attention import DIMENSIONS
from ..ops.residual import ADD
from .presets import FIRST, JOINED, RESIDUALS, SHORTCUTS, Config, Row, table

__all__ = ["build", "ResNet21", "Stage", "Unit"]


class Unit(nn.Module):
    """conv, batch norm, [attention], neurons; or, for MS, the neurons first. If ``neurons`` is None, they follow later."""

    one_layer: tuple[str, ...] = ("conv", "lif")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        attention: nn.Attention | None,
        neurons: nn.Neurons | None,
        make: dict[str, Any],
        neurons_first: bool = False,
    ) -> None:
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, **make)
        self.norm = nn.BatchNorm2d(out_channels, dtype=make["dtype"])
        self.attention = attention
        self.lif = neurons
        self.neurons_first = neurons_first

    def forward(self, x: Tensor) -> Tensor:
        if self.lif is not None and not self.neurons_first:
            return self.lif.after(self.norm, self.attention, self.conv(x))
        x = self.norm(self.conv(x if self.lif is None else self.lif(x)))
        return x if self.attention is None else self.attention(x)


class Stage(nn.Module):
    """Main branch (two units, the first of stride 2), shortcut (1x1, stride 2) and their join; then two units.

    Each branch runs once. ``shortcut`` is None if there is none, or if it has been pruned.
    """

    one_layer: tuple[str, ...] = ("lif",)

    def __init__(
        self, main: nn.Module, shortcut: nn.Module | None, join: nn.Join, lif: nn.Neurons | None, after: nn.Module
    ) -> None:
        self.main, self.shortcut, self.join, self.lif, self.after = main, shortcut, join, lif, after

    def forward(self, x: Tensor) -> Tensor:
        out = self.main(x)
        if self.shortcut is not None:
            out = self.join(out, self.shortcut(x))
        if self.lif is not None:  # vanilla: the neurons come after the join
            out = self.lif(out)
        return self.after(out)


class ResNet21(nn.Module):
    """See ``build``. ``net(x)``: [T, N, C, H, W] -> class scores [N, classes], the mean over T; ``print(net)`` shows it."""

    def __init__(self, config: Config, rng: np.random.Generator | None = None) -> None:
        self.config = c = config
        stem, w = CATALOGUE[c.preset].stem, c.width
        make: dict[str, Any] = dict(rng=rng, dtype=c.dtype)
        residual, kind = RESIDUALS[c.residual], nn.NEURONS[c.neuron]
        neurons_first = residual.neurons == FIRST
        first = c.position in "ac"  # MA after the first convolution of a pair

        def neurons() -> nn.Neurons:
            return kind(**dict(dtype=c.dtype) if kind.learns else {})

        def attention(channels, spiking, kernel=3):
            return nn.Attention(str(c.attention), c.timesteps, channels, spiking, kernel, start=c.start, **make)

        def unit(i, o, stride=1, ma=False, kernel=3, fires=True):
            gate = attention(o, False, kernel) if c.attention is not None and c.ma and ma else None
            return Unit(i, o, 3, stride, gate, neurons() if fires else None, make, neurons_first)

        self.pool_first = nn.AdaptiveAvgPool2d(stem.pool_first) if stem.pool_first else None
        self.stem = Unit(stem.channels, w, stem.kernel, stem.stride, None, None if neurons_first else neurons(), make)
        self.max_pool = nn.MaxPool2d(3, 2, 1) if stem.max_pool else None
        self.features = nn.Sequential(*[unit(w, w, ma=(k % 2 == 0) == first, kernel=stem.space_kernel) for k in range(4)])
        self.stages = nn.ModuleList()
        fires = residual.neurons != JOINED  # whether the branches end in neurons of their own, or begin with them
        for k in SHORTCUTS:
            i, o = w << (k - 1), w << k
            main = nn.Sequential(unit(i, o, 2, ma=first), unit(o, o, ma=not first, fires=fires))
            shortcut = None
            if residual.join is not None and k not in c.removed:
                ia = attention(o, True) if c.attention is not None and c.ia else None
                shortcut = Unit(i, o, 1, 2, ia, neurons() if fires else None, make, neurons_first)
            gated = c.position in "ab"  # c and d have no attention after the join
            after = nn.Sequential(unit(o, o, ma=first and gated), unit(o, o, ma=not first and gated))
            stage = Stage(main, shortcut, nn.Join(residual.join or ADD), None if fires else neurons(), after)
            setattr(self.stages, str(k - 1), stage)
        self.last_lif = neurons() if neurons_first else None
        self.dropout = nn.Dropout(c.dropout) if c.dropout else None
        self.head = nn.Linear(8 * w, stem.classes, **make)
        self.name_parts()

    def plan(self, size: int | None = None) -> list[Row]:
        """Its layers in order, for images of ``size`` (default: those of the data set), with what leaves each."""
        c, stem = self.config, CATALOGUE[self.config.preset].stem
        size = self.pool_first.size if self.pool_first is not None else size or stem.size
        rows = []

        def unit(name: str, part: Any, side: int) -> int:
            conv = part.conv
            cout, cin, k, _ = conv.weight.shape
            words = [f"conv {k}x{k}" + (f" stride {conv.stride}" if conv.stride > 1 else "") + f", {cin} to {cout}", "norm"]
            if part.attention is not None:
                words.append(("IA-" if part.attention.spiking else "MA-") + part.attention.dim.upper())
            if part.lif is not None:
                words.insert(0 if part.neurons_first else len(words), type(part.lif).__name__)
            side = (side + 2 * conv.padding - k) // conv.stride + 1
            rows.append(Row(name, ", ".join(words), (cout, side, side), sum(p.size for p in part.parameters())))
            return side

        size = unit("stem", self.stem, size)
        if self.max_pool is not None:
            window: Any = self.max_pool.window
            kernel, stride, padding = window
            size = (size + 2 * padding - kernel) // stride + 1
            rows.append(Row("max pool", f"maximum of {kernel}x{kernel}, stride {stride}", (c.width, size, size), 0))
        for k, part in enumerate(self.features):
            size = unit(f"features.{k}", part, size)
        for k, stage in enumerate(self.stages):
            before, cout = size, c.width << (k + 1)
            for i, part in enumerate(stage.main):
                size = unit(f"stages.{k}.main.{i}", part, size)
            if stage.shortcut is not None:
                unit(f"stages.{k}.shortcut", stage.shortcut, before)
                then = "" if stage.lif is None else f", {type(stage.lif).__name__}"
                rows.append(Row(f"stages.{k}.join", f"main {stage.join.how.upper()} shortcut{then}", (cout, size, size), 0))
            for i, part in enumerate(stage.after):
                size = unit(f"stages.{k}.after.{i}", part, size)
        classes, features = self.head.weight.shape
        words = [f"mean over the map, {features} to {classes}, mean over T"]
        words[:0] = [] if self.last_lif is None else [type(self.last_lif).__name__]
        rows.append(Row("head", ", ".join(words), (classes,), sum(p.size for p in self.head.parameters())))
        return rows

    def __repr__(self) -> str:
        """The plan as a table."""
        c, rows = self.config, self.plan()
        attention = f", attention over {DIMENSIONS[c.attention].words} at position {c.position}" if c.attention else ""
        total = sum(p.size for p in self.parameters())
        head = f"{c.preset}: {c.residual} network{attention}, width {c.width}, T {c.timesteps}, {total:,} parameters"
        return table(head, rows)

    def misfit(self, size: Sequence[int]) -> str:
        """Why it cannot read samples [C, H, W] of this size: "reads ... " what; "" if it can."""
        channels = self.stem.conv.weight.shape[1]
        return "" if size[0] == channels else f"reads {channels} channels"

    def forward(self, x: Any) -> Tensor:
        return self.steps(x).mean(0)  # [N, classes]

    def steps(self, x: Any) -> Tensor:
        """The scores of each time step, [T, N, classes], whose mean ``net(x)`` is."""
        if not isinstance(x, Tensor):
            x = Tensor(np.asarray(x), dtype=self.config.dtype)
        channels = self.stem.conv.weight.shape[1]
        if x.ndim != 5 or x.shape[2] != channels or 0 in x.shape:
            raise ValueError(f"the network got an input of shape {x.shape}; give [T, N, {channels}, H, W]")
        dimension = DIMENSIONS.get(self.config.attention or "")
        if dimension is not None and dimension.by_time and x.shape[0] != self.config.timesteps:
            raise ValueError(
                f"the network got {x.shape[0]} time steps, but its attention over {dimension.words} was built for "
                f"{self.config.timesteps}"
            )
        for part in (self.pool_first, self.stem, self.max_pool, self.features, *self.stages, self.last_lif):
            if part is not None:
                x = part(x)
        x = ops.global_avg_pool2d(x)  # [T, N, 8w]
        return self.head(x if self.dropout is None else self.dropout(x))


def build(
    preset: str = "mnist",
    residual: str = "or",
    attention: str | None = None,
    position: str = "a",
    width: int = 64,
    timesteps: int = 16,
    dtype: str = "float32",
    seed: int | None = None,
    ma: bool = True,
    ia: bool = True,
    removed: Sequence[int] = (),
    neuron: str = "lif",
    start: str = "open",
    dropout: float = 0.0,
) -> ResNet21:
    """A residual spiking network of 21 layers (Tables V and IX).

    Args:
        preset: stem, input and classes: "digits", "mnist", "fashion-mnist", "cifar10", "dvsgesture", "cifar10dvs", "nmnist"
            or "gestures".
        residual: "or", "add", "and", "iand" (SEW joins, Table II), "vanilla" (Eq. 4), "ms" (Eq. 5) or "none".
        attention: None, or synergistic attention over "t" time, "c" channels or "s" space: MA on the backbone, IA on the
            shortcuts; ``ma`` and ``ia`` switch either half off (Table VII).
        position: of MA, "a" to "d" (Table V).
        width: channels of the stem, a multiple of 8.
        timesteps: T; attention over time is built for this T, every other network takes any T.
        dtype: "float32" or "float64".
        seed: of the initial weights; by default they come from the generator that ``manual_seed`` restarts.
        removed: numbers (from 1) of the shortcuts to omit.
        neuron: kind of its neurons, one of ``nn.NEURONS``.
        start: initial weights of attention, "open" or "pytorch"; see ``nn.Attention``.
        dropout: share of the features that training silences before the last layer (``nn.Dropout``).

    Returns:
        ResNet21, in training mode.

    Raises:
        ValueError: names the argument that is out of range.
    """
    config = Config(
        preset, residual, attention, position, width, timesteps, dtype, ma, ia, tuple(removed), neuron, start, dropout
    )
    return ResNet21(config, generator() if seed is None else np.random.default_rng(seed))

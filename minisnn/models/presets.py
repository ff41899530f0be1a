"""What differs between the paper's networks, as data: joins, positions of attention, and the names of the systems."""

import dataclasses
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..catalogue import CATALOGUE

__all__ = [
    "Residual",
    "RESIDUALS",
    "SHORTCUTS",
    "LAST",
    "JOINED",
    "FIRST",
    "PRUNABLE",
    "POSITIONS",
    "NEURON_NAMES",
    "SYSTEMS",
    "LAYERED",
    "MODELS",
    "Layers",
    "Row",
    "table",
    "Config",
    "label",
]


SHORTCUTS = (1, 2, 3)  # numbers of the stages' shortcuts, as the paper counts them

# Where the neurons of a branch are: after each convolution (Eq. 6), the last after the join instead (Eq. 4), or before each
# convolution (Eq. 5).
LAST, JOINED, FIRST = "last", "joined", "first"


@dataclasses.dataclass(frozen=True)
class Residual:
    """How the two branches of a stage meet."""

    join: str | None  # of ops.join; None for no shortcut at all
    neurons: str  # LAST, JOINED or FIRST
    neutral: bool  # whether a shortcut can be removed: the join then leaves the main branch as it is
    why_not: str = ""  # why a silent shortcut cannot be removed (pruning.py); "" if it can

    @property
    def adds(self) -> bool:
        """Whether the join turns spikes into numbers, by which the next convolution multiplies."""
        return self.join == "add"


RESIDUALS = {
    "or": Residual("or", LAST, True),
    "add": Residual("add", LAST, True),
    "and": Residual(
        "and", LAST, False, "a silent shortcut makes its AND join silent too, so removing it would change the network"
    ),
    "iand": Residual(
        "iand",
        LAST,
        False,
        "a silent shortcut makes its IAND join silent too, (1 - x) * 0 = 0, so removing it would change the network",
    ),
    "vanilla": Residual(
        "add",
        JOINED,
        True,
        "its shortcuts have no neurons of their own: they end in batch norm, which adds a constant even without spikes",
    ),
    "ms": Residual(
        "add",
        FIRST,
        True,
        "its shortcuts end in batch norm, which adds a constant even if the neurons before them are silent",
    ),
    "none": Residual(None, LAST, False, "it has no shortcuts"),
}
PRUNABLE = tuple(name for name, row in RESIDUALS.items() if not row.why_not)
POSITIONS = ("a", "b", "c", "d")
NEURON_NAMES = ("lif", "if", "plif", "alif", "synaptic")  # the rows of nn.NEURONS, for which the compiler would be imported

# The systems that the paper compares (Tables III, IV and VII), by their names on the command line; attention is over time,
# channels or space.
SYSTEMS: dict[str, dict[str, Any]] = {
    "plain": dict(residual="none"),
    "vanilla": dict(residual="vanilla"),
    "ms": dict(residual="ms"),
    "sew-add": dict(residual="add"),
    "sew-and": dict(residual="and"),
    "sew-iand": dict(residual="iand"),
    "or": dict(residual="or"),
    **{f"syna-{dim}": dict(residual="or", attention=dim) for dim in "tcs"},
    **{f"ma-{dim}": dict(residual="or", attention=dim, ia=False) for dim in "tcs"},
    **{f"ia-{dim}": dict(residual="or", attention=dim, ma=False) for dim in "tcs"},
}


@dataclasses.dataclass(frozen=True)
class Layers:
    """A network without maps (layered.py)."""

    depth: int  # layers of neurons
    recurrent: bool  # whether their spikes reach them again


LAYERED = {"fully-connected": Layers(2, False), "recurrent": Layers(1, True)}  # by their names on the command line
MODELS = (*SYSTEMS, *LAYERED)


@dataclasses.dataclass(frozen=True)
class Config:
    """One network of the family. Raises ValueError, naming the field, if a value is out of range."""

    preset: str = "mnist"  # stem: a row of catalogue.CATALOGUE
    residual: str = "or"  # one of RESIDUALS
    attention: str | None = None  # None or one of ops.attention.DIMENSIONS
    position: str = "a"  # of MA in each pair of convolutions (Table V): a, c after the first; b, d after the second;
    #                      c and d leave the pair after the join without MA
    width: int = 64  # channels of the stem; the stages have 2, 4 and 8 times as many
    timesteps: int = 16  # T
    dtype: str = "float32"
    ma: bool = True  # attention on the backbone
    ia: bool = True  # inhibitory attention on the shortcuts
    removed: tuple = ()  # SHORTCUTS that the network omits
    neuron: str = "lif"  # one of nn.NEURONS
    start: str = "open"  # of attention, or "pytorch"
    dropout: float = 0.0  # share of the features that training silences before the last layer

    def __post_init__(self):
        from ..nn import NEURONS  # late: with them comes the compiler, which the names above do without
        from ..ops.attention import DIMENSIONS

        choices = dict(
            preset=tuple(name for name, row in CATALOGUE.items() if row.maps),
            residual=tuple(RESIDUALS),
            attention=(None, *DIMENSIONS),
            position=POSITIONS,
            dtype=("float32", "float64"),
            neuron=tuple(NEURONS),
            start=("open", "pytorch"),
        )
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field} is {getattr(self, field)!r}; give one of {', '.join(map(str, allowed))}")
        if not isinstance(self.width, numbers.Integral) or self.width < 8 or self.width % 8:
            raise ValueError(f"width is {self.width!r}; give a multiple of 8")
        if not isinstance(self.timesteps, numbers.Integral) or isinstance(self.timesteps, bool) or self.timesteps < 1:
            raise ValueError(f"timesteps is {self.timesteps!r}; give a whole number of at least 1")
        object.__setattr__(self, "width", int(self.width))  # a NumPy number cannot be written to config.json
        object.__setattr__(self, "timesteps", int(self.timesteps))
        object.__setattr__(self, "removed", tuple(sorted(set(self.removed))))
        if not set(self.removed) <= set(SHORTCUTS):
            raise ValueError(f"removed is {self.removed}; the shortcuts are numbered 1, 2 and 3")
        if self.removed and not RESIDUALS[self.residual].neutral:
            raise ValueError(f"residual '{self.residual}' cannot do without a shortcut: its join has no neutral input")


def label(name: str) -> str:
    """A layer's dotted name in words: "stages.0.main.1" -> "stage 1 main 2"."""
    words: list[str] = []
    for part in name.split("."):
        if part.isdigit() and words:
            words.append(str(int(part) + 1))
        else:
            words.append(
                {"features": "feature", "stages": "stage", "layers": "layer", "last_lif": "last LIF", "head": "linear"}.get(
                    part, part
                )
            )
    return " ".join(words)


class Row(NamedTuple):
    """A line of the plan of a network."""

    name: str  # dotted, as in a ledger and in reports
    what: str  # in words, in the order in which it computes
    output: tuple[int, ...]  # channels, height, width of what leaves it; (features,) or (classes,)
    parameters: int


def table(head: str, rows: Sequence[Row]) -> str:
    """A plan as text, under a line that says what it is of."""
    lines = [("layer", "what", "output", "parameters")]
    for row in rows:
        output = " x ".join(map(str, row.output))
        lines.append((label(row.name), row.what, output, f"{row.parameters:,}" if row.parameters else ""))
    wide = [max(map(len, column)) for column in zip(*lines)]
    text = [f"{a:{wide[0]}}  {b:{wide[1]}}  {o:>{wide[2]}}  {n:>{wide[3]}}".rstrip() for a, b, o, n in lines]
    return "\n".join([head, "", text[0], "-" * len(text[0]), *text[1:]])

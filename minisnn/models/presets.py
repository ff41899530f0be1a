"""What differs between the paper's networks, as data: joins, where attention stands, and the names of the systems."""

import dataclasses
import numbers
from typing import Any

from ..catalogue import CATALOGUE

__all__ = ["RESIDUALS", "PRUNABLE", "POSITIONS", "SYSTEMS", "Config"]


RESIDUALS = ("or", "add", "and", "iand", "vanilla", "ms", "none")
PRUNABLE = ("or", "add")  # joins that an absent shortcut does not change
POSITIONS = ("a", "b", "c", "d")
SHORTCUTS = (1, 2, 3)

# The systems that the paper compares (Tables III, IV and VII), by the names of the command line.
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
class Config:
    """One network of the family. Raises ValueError, naming the field, where a value is out of range."""

    preset: str = "mnist"  # stem: a row of catalogue.CATALOGUE
    residual: str = "or"  # "or", "add", "and", "iand" (SEW joins, Table II), "vanilla" (Eq. 4), "ms" (Eq. 5) or "none"
    attention: str | None = None  # None, "t", "c" or "s"
    position: str = "a"  # of MA in each pair of convolutions (Table V): a, c behind the first; b, d behind the second;
    #                      c and d leave the pair behind the join without
    width: int = 64  # channels of the stem; the stages have 2, 4 and 8 times as many
    timesteps: int = 16  # T
    dtype: str = "float32"
    ma: bool = True  # attention on the backbone
    ia: bool = True  # inhibitory attention on the shortcuts
    removed: tuple = ()  # numbers (from 1) of the shortcuts that the network does without

    def __post_init__(self):
        choices = dict(preset=tuple(CATALOGUE), residual=RESIDUALS, attention=(None, "t", "c", "s"), position=POSITIONS,
                       dtype=("float32", "float64"))
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field} is {getattr(self, field)!r}; give one of {', '.join(map(str, allowed))}")
        if not isinstance(self.width, numbers.Integral) or self.width < 8 or self.width % 8:
            raise ValueError(f"width is {self.width!r}; give a multiple of 8")
        if not isinstance(self.timesteps, numbers.Integral) or isinstance(self.timesteps, bool) or self.timesteps < 1:
            raise ValueError(f"timesteps is {self.timesteps!r}; give a whole number of at least 1")
        object.__setattr__(self, "width", int(self.width))  # a NumPy number would not go into config.json
        object.__setattr__(self, "timesteps", int(self.timesteps))
        object.__setattr__(self, "removed", tuple(sorted(set(self.removed))))
        if not set(self.removed) <= {1, 2, 3}:
            raise ValueError(f"removed is {self.removed}; the shortcuts have the numbers 1, 2 and 3")
        if self.removed and self.residual in ("and", "iand", "none"):
            raise ValueError(f"residual '{self.residual}' cannot do without a shortcut: its join has no neutral input")

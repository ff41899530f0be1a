"""The options of training, each declared once: its default, what it may be, and what it means.

These declarations let ``Options`` check values and the command line read its words (cli/declared.py). So a new option is
one field here, and one line where it is used.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from . import terminal
from .catalogue import CATALOGUE, NAMES, WITHOUT_MAPS, Recipe
from .data.base import Dataset
from .data.places import CACHE_OPTIONS
from .errors import UsageError
from .kinds import Kind, above_zero, one_of, path, real, some_of, switch, whole
from .models.presets import LAYERED, MODELS, NEURON_NAMES, POSITIONS, RESIDUALS, SHORTCUTS, SYSTEMS

__all__ = ["Option", "Options", "OPTIONS", "EVENT_OPTIONS", "flag", "command"]

LOSSES = ("mse", "ce", "tet")
WHAT, HOW = "what to train", "how to train it"
EVENTS = f"events ({', '.join(name for name in NAMES if CATALOGUE[name].events)})"


@dataclasses.dataclass(frozen=True)
class Option:
    """What the command line shows for an option, and what it may be."""

    kind: Kind
    group: str
    help: str
    metavar: str | None = None
    short: str = ""  # such as "-b"
    flag: str = ""  # if it is not the field's name
    of_system: bool = False  # belongs to each system of an ablation, which sets it itself


def declared(default: Any, kind: Kind, group: str, text: str, *rest: Any, **more: Any) -> Any:
    """A field with its declaration. A default of None means the data set's own (catalogue.py), if its recipe has one."""
    return dataclasses.field(default=default, metadata={"option": Option(kind, group, text, *rest, **more)})


@dataclasses.dataclass
class Options:
    """Every option of training. None means the data set's own default (catalogue.py), which then replaces it.

    Raises:
        UsageError: an option is out of range; the message names it as on the command line.
    """

    dataset: str = declared("digits", one_of(NAMES), WHAT, f"one of {', '.join(NAMES)} (default: digits)", "NAME")
    model: str = declared(
        None, one_of(MODELS), WHAT, f"one of {', '.join(MODELS)}; the last two have no maps", "NAME", of_system=True
    )
    position: str = declared(
        "a", one_of(POSITIONS), WHAT, "of attention in each pair of convolutions, a to d (default: a)", "P", of_system=True
    )
    neuron: str = declared(
        "lif", one_of(NEURON_NAMES), WHAT, f"kind of the neurons, one of {', '.join(NEURON_NAMES)} (default: lif)", "NAME"
    )
    width: int = declared(
        None, whole(8, multiple=8), WHAT, "channels of the first layer, or neurons of each without maps; a multiple of 8", "W"
    )
    timesteps: int = declared(None, whole(), WHAT, "time steps", "T", "-T")
    recipe: str = declared(
        "quick",
        one_of(("quick", "paper")),
        HOW,
        "quick: the data set's defaults below; paper: its Table X (rate, T, batch, epochs, augmentation), width 64, and the "
        "start of PyTorch. Other options given go before either (default: quick)",
    )
    epochs: int = declared(None, whole(), HOW, "passes over the training samples", "E")
    batch_size: int = declared(None, whole(), HOW, "samples at once", "B", "-b")
    lr: float = declared(None, above_zero, HOW, "highest learning rate; falls to 0 along half a cosine", "LR")
    warmup: float = declared(
        None, real(lambda value: value >= 0, "a number of 0 or more"), HOW, "epochs over which the rate first rises", "E"
    )
    loss: str = declared(
        None, one_of(LOSSES), HOW, "mse, the paper's; ce, cross-entropy; or tet, cross-entropy at every time step"
    )
    start: str = declared(
        None,
        one_of(("open", "pytorch")),
        HOW,
        "initial weights of attention: open, whose scores are near 1, or pytorch, of both signs, as in the published code. "
        "With pytorch's, scores start near 1/2 and inhibitory attention near 0: spatial attention then often never learns",
    )
    optimizer: str = declared(None, one_of(("adam", "sgd")), HOW, "what moves the weights")
    gain: float = declared(
        None,
        above_zero,
        HOW,
        "initial weight of the batch norms, or without maps a factor of the initial weights: a higher one lets more neurons "
        "fire at first",
        "G",
    )
    augment: bool = declared(None, switch, HOW, "vary the training samples at random")
    normalize: bool = declared(
        None, switch, HOW, "show images from -1 to 1 in place of 0 to 1, as the paper does Fashion-MNIST"
    )
    limit: int | None = declared(None, whole(), HOW, "train on only N samples, drawn by the seed (default: all)", "N")
    stratified: bool = declared(False, switch, HOW, "draw the samples of --limit equally from all classes (default: no)")
    clip: float | None = declared(
        None, above_zero, HOW, "shorten the gradient of all parameters together to this length where it is longer", "NORM"
    )
    weight_decay: float | None = declared(
        None,
        real(lambda value: 0 <= value < 1, "a number from 0 up to 1"),
        HOW,
        "shrink the parameters by this, times the rate, at each step (AdamW; with sgd it is added to the gradient)",
        "D",
    )
    ema: float | None = declared(
        None,
        real(lambda value: 0 < value < 1, "a number between 0 and 1"),
        HOW,
        "evaluate and keep a running mean of the parameters, which takes this share of itself at each step, such as 0.999",
        "SHARE",
    )
    dropout: float | None = declared(
        None,
        real(lambda value: 0 <= value < 1, "a number from 0 up to 1"),
        HOW,
        "in training, silence this share of the features before the last layer, one mask for all time steps",
        "SHARE",
    )
    validation: float | None = declared(
        None,
        real(lambda value: 0 < value < 1, "a number between 0 and 1"),
        HOW,
        "hold out this share of the training samples of each class, and keep as best.npz the epoch that does best on them; "
        "without it every command reads the last epoch, since the test set must not choose (default: none)",
        "SHARE",
    )
    recalibrate: int = declared(
        None,
        whole(0),
        HOW,
        "before each evaluation, estimate the statistics of the batch norms anew over N training batches: a running mean lags "
        "behind weights that move fast. Everything else stays as it is, and 0 leaves the running means",
        "N",
    )
    log: str | None = declared(
        None,
        one_of(("tensorboard",)),
        HOW,
        "also write accuracies, firing rates and histograms of all parameters to RUN/tensorboard, for TensorBoard; needs "
        "minisnn[tensorboard]",
    )
    removed: tuple = declared(
        (),
        some_of(SHORTCUTS, "shortcuts"),
        WHAT,
        "omit these shortcuts, numbers from 1 to 3",
        "K,K",
        flag="--remove",
        of_system=True,
    )
    seed: int = 0  # of weights, order and augmentation
    split_seed: int = declared(
        0, whole(0), HOW, "of the split into training and test, if the data comes without one (default: 0)", "N"
    )
    folds: int | None = declared(
        None,
        whole(2),
        HOW,
        "of data that comes without a test part: deal it out to K equal parts, each class alike, and test on the one with the "
        "number --split-seed, from 0 (default: one draw of test samples)",
        "K",
    )
    threads: int = None  # type: ignore[assignment]  # by default all
    data_dir: str | None = declared(
        None, path, WHAT, "where the data is (default: the variable MINISNN_DATA, else ~/.cache/minisnn)", "DIR"
    )
    data_options: dict = dataclasses.field(default_factory=dict)  # further arguments of data.load, such as EVENT_OPTIONS

    def __post_init__(self) -> None:
        check("dataset", self.dataset)
        check("recipe", self.recipe)
        row = CATALOGUE[self.dataset]
        if self.model is None:
            self.model = row.recipe.model
        check("model", self.model)
        layers = LAYERED.get(self.model)
        if layers is None and not row.maps:
            raise UsageError(
                f"--dataset: {self.dataset} has no maps, which the model '{self.model}' convolves; give one of "
                f"{', '.join(LAYERED)} as the model, or another --dataset"
            )
        recipe = row.quick(layers is not None) if self.recipe == "quick" else row.paper
        if layers is not None and self.recipe == "paper":
            raise UsageError(f"--recipe: the paper does not train the model '{self.model}'; omit it, or give another --model")
        if recipe is None:
            known = ", ".join(name for name in NAMES if CATALOGUE[name].paper)
            raise UsageError(
                f"--recipe: the paper does not train on {self.dataset}; omit it, or give one of {known} as --dataset"
            )
        if self.warmup is None:  # it must leave something of a run of one or two epochs
            self.warmup = min(recipe.warmup, (recipe.epochs if self.epochs is None else self.epochs) / 4)
        for field in dataclasses.fields(recipe):
            if getattr(self, field.name) is None:
                setattr(self, field.name, getattr(recipe, field.name))
        self.data_options = {**recipe.data_options, **self.data_options}
        self.data_dir = self.data_dir and os.path.abspath(os.path.expanduser(self.data_dir))  # a run is opened from any folder
        if self.threads is None:
            from . import threads  # late: it brings in the compiler

            self.threads = threads.get_num_threads()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:
                check(field.name, value)
        self.removed = tuple(sorted(set(self.removed)))
        for name, neutral in (("position", "a"), ("start", "open"), ("removed", ())):
            if layers is not None and getattr(self, name) != neutral:
                raise UsageError(
                    f"{flag(name)} has no meaning for the model '{self.model}', without attention and shortcuts; omit it"
                )
        if self.folds is not None and self.split_seed >= self.folds:
            raise UsageError(
                f"--split-seed: there is no fold {self.split_seed} of {self.folds}; give a number from 0 to {self.folds - 1}"
            )
        if self.warmup >= self.epochs:
            raise UsageError(f"--warmup: {self.warmup} epochs is out of range; give less than --epochs {self.epochs}")

    def network(self) -> dict[str, Any]:
        """Arguments of ``models.from_config``, without the preset."""
        if (layers := LAYERED.get(self.model)) is not None:
            stem = CATALOGUE[self.dataset].stem
            side = self.data_options.get("frame_size") or stem.size
            return {
                "sizes": [stem.channels * side**2, *[self.width] * layers.depth, stem.classes],
                "recurrent": layers.recurrent,
                "neuron": self.neuron,
                "timesteps": self.timesteps,
                "gain": self.gain,
                "dropout": self.dropout or 0.0,
                "seed": self.seed,
            }
        system = SYSTEMS[self.model]
        if self.removed and not RESIDUALS[system["residual"]].neutral:
            raise UsageError(
                f"--remove: the model '{self.model}' cannot do without a shortcut; omit --remove or give another --model"
            )
        return {
            **system,
            "position": self.position,
            "neuron": self.neuron,
            "width": self.width,
            "timesteps": self.timesteps,
            "seed": self.seed,
            "removed": list(self.removed),
            **({} if self.start == "open" else {"start": self.start}),  # a run of an earlier version has neither
            **({"dropout": self.dropout} if self.dropout else {}),
        }

    def load(self, keep_out: list | None = None) -> Dataset:
        """The data set; ``keep_out``: the recordings that the run has previously held out."""
        from . import data

        return data.load(
            self.dataset,
            self.data_dir,
            self.timesteps,
            self.split_seed,
            augment="paper" if self.augment and self.recipe == "paper" else self.augment,
            normalize=self.normalize or None,  # which event data does not know
            keep_out=keep_out,
            folds=self.folds,
            **self.data_options,
        )

    def of_the_run(self) -> dict[str, Any]:
        """The options that config.json keeps: all except those that belong to the machine."""
        kept = {name: value for name, value in self.data_options.items() if name not in CACHE_OPTIONS}
        return dataclasses.asdict(self) | {"data_options": kept}


OPTIONS: dict[str, Option] = {f.name: f.metadata["option"] for f in dataclasses.fields(Options) if f.metadata}
"""What the fields of ``Options`` declare, by name."""

# For data sets of events, by the names of the arguments of data.load; what is not given is the data set's own.
EVENT_OPTIONS = {
    "slicing": Option(
        one_of(("count", "time")),
        EVENTS,
        "cut a recording into T slices of equally many events, or of equal time (default: count)",
    ),
    "frame_size": Option(whole(8), EVENTS, "add up pixels into frames of S x S (default: the sensor's size)", "S"),
    "window": Option(above_zero, EVENTS, "cut recordings into samples of MS milliseconds (default: whole recordings)", "MS"),
    "stride": Option(above_zero, EVENTS, "from one window's start to the next (default: half a window)", "MS"),
    "split_at": Option(
        above_zero,
        EVENTS,
        "train on the windows before MS of each recording, test on those after (default: the official "
        "split, or one recording in ten held out)",
        "MS",
    ),
    "skip_bad": Option(switch, EVENTS, "omit recordings that cannot be used, and count them"),
    "cache": Option(
        path,
        EVENTS,
        "where frames are kept, 'none' for nowhere (default: the variable MINISNN_CACHE, else ~/.cache/minisnn/frames)",
        "DIR",
    ),
    "cache_limit": Option(above_zero, EVENTS, "most that the folder may take (default: 4)", "GB"),
}


def check(name: str, value: Any) -> None:
    """Raise UsageError if a value is not what its option declares."""
    option = OPTIONS.get(name, SHARED.get(name))
    if option is not None and not option.kind.allows(value):
        raise UsageError(f"{flag(name)}: {value!r} {option.kind.refusal}")


EARLIER = {"recalibrate": 0}  # how runs were trained whose config.json does not say, where that is not the default

SHARED = {"seed": Option(whole(0), "", ""), "threads": Option(whole(), "", "")}  # every command has them


def recipe_default(name: str) -> str:
    """The end of an option's help: its default for each data set. Empty if no recipe has it."""
    if name not in {field.name for field in dataclasses.fields(Recipe)}:
        return ""
    values: dict[str, list[str]] = {}
    for dataset in NAMES:
        value = getattr(CATALOGUE[dataset].recipe, name)
        values.setdefault(f"{value:g}" if isinstance(value, float) else str(value), []).append(dataset)
    said = "; ".join(f"{value} for {', '.join(names)}" for value, names in values.items())
    if len(values) == 1:
        said = next(iter(values))
    return f" (default: {said}{f'; {WITHOUT_MAPS[name]} without maps' if name in WITHOUT_MAPS else ''})"


def flag(name: str) -> str:
    """An option's name as on the command line."""
    return (OPTIONS[name].flag if name in OPTIONS else "") or "--" + name.replace("_", "-")


def command(options: Options) -> str:
    """The command that repeats a run."""
    words: list[Any] = ["train"]
    for name, value in (
        {name: getattr(options, name) for name in OPTIONS}
        | {"seed": options.seed, "threads": options.threads}
        | options.of_the_run()["data_options"]
    ).items():
        if isinstance(value, bool):
            words.append(flag(name) if value else f"--no-{flag(name)[2:]}")
        elif value not in (None, ()):
            words += [flag(name), ",".join(map(str, value)) if isinstance(value, tuple) else value]
    return terminal.command(*words)

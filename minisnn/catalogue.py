"""The data sets: a row for each, with everything that depends on its name.

A new data set is a row here and, if none of the readers fits, a function in the module that the row names.
"""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["CATALOGUE", "NAMES", "DataSet", "Stem", "Recipe", "Moves", "IdxFiles", "Recordings", "SoundFiles", "WITHOUT_MAPS"]


@dataclasses.dataclass(frozen=True)
class Stem:
    """The encoder in front of the plan that all networks share, and what it expects (Table IX, Section III-A)."""

    channels: int  # of the input
    size: int  # native height and width of the data set; any other works too
    classes: int
    kernel: int = 3
    stride: int = 1
    pool_first: int = 0  # adaptive average pool to this size first, 0 for none
    max_pool: bool = False  # 3x3, stride 2, padding 1, after the neurons
    space_kernel: int = 3  # side of the kernel of spatial attention in the four feature convolutions


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train unless told otherwise: defaults of ``options.Options``."""

    model: str = "syna-t"
    timesteps: int = 4  # T
    width: int = 16  # channels of the stem; without maps, neurons of each layer
    epochs: int = 30
    batch_size: int = 64
    lr: float = 2e-3
    warmup: float = 1.0  # epochs over which the learning rate rises
    loss: str = "mse"  # the paper's; or "ce"
    optimizer: str = "adam"
    gain: float = 1.0  # initial weight of the batch norms, see train.new_network; without maps, see models.fully_connected
    augment: bool = True
    start: str = "open"  # of attention; or "pytorch"
    normalize: bool = False  # images from -1 to 1
    recalibrate: int = 20  # training batches over which the statistics of batch norm are estimated before an evaluation
    data_options: dict = dataclasses.field(default_factory=dict)  # further arguments of data.load


# What a network without maps (models.presets.LAYERED) trains with where the data set's own recipe is one for maps.
WITHOUT_MAPS: dict[str, Any] = dict(width=128, lr=2e-3, loss="ce", gain=2.0, recalibrate=0)


@dataclasses.dataclass(frozen=True)
class Moves:
    """How far augmentation may move a training sample, in either direction."""

    shift: tuple[float, float] = (0.0, 0.0)  # fractions of height and width
    degrees: float = 0.0
    zoom: float = 0.0  # fraction of the size
    flip: bool = False  # mirror a sample left to right with probability 1/2


@dataclasses.dataclass(frozen=True)
class IdxFiles:
    """Still images in IDX files: where they are, and where they come from."""

    folder: str  # within the data folder, as torchvision lays it out
    url: str
    md5: dict  # of the .gz files
    installed: tuple = ()  # further folders to look in


@dataclasses.dataclass(frozen=True)
class Recordings:
    """Recordings of an event camera on disk, as tonic lays them out."""

    tonic: str  # name of tonic's class, and of the folder
    read: str  # function of data/events.py: (path, tonic's class) -> events
    # function of data/recordings.py: (path, tonic's class, number of classes) -> label, or None if the path gives none
    label: str
    ending: str  # of a recording's file
    parts: dict  # official part: its folder; empty if there is no official split
    layout: str  # for messages
    gigabytes: float  # of the download


@dataclasses.dataclass(frozen=True)
class SoundFiles:
    """Recordings of sound as spikes in HDF5 files, as tonic lays them out."""

    folder: str
    files: dict  # part: its file
    urls: tuple  # of the archives that hold them
    seconds: float  # from the start of a recording to the end of the last time step


@dataclasses.dataclass(frozen=True)
class DataSet:
    """What everything else needs to know about a data set."""

    stem: Stem
    module: str = ""  # of minisnn.data, with a function ``load``; "" if there is a network for the data but no reader
    recipe: Recipe = Recipe()
    paper: Recipe | None = None  # Table X; None if the paper does not train on the data set
    classes: tuple = ()  # their names by label; () if tonic knows them
    moves: Moves = Moves()  # augmentation, if it is on
    source: Any = None  # IdxFiles or Recordings, whichever the module reads
    events: bool = False  # from an event camera, and so loaded with the options of one
    paper_moves: Moves | None = None  # the paper's, where it is another
    paper_samples: int = 0  # that the paper trains on
    maps: bool = True  # whether samples are maps, which the networks of models.build convolve

    def quick(self, without_maps: bool) -> Recipe:
        """The recipe for networks that convolve maps, or for those without."""
        return dataclasses.replace(self.recipe, **WITHOUT_MAPS) if without_maps and self.maps else self.recipe

    def augmentation(self, how: bool | str) -> Moves | None:
        """What augmentation is: none for False, the data set's own for True, that of Table X for "paper"."""
        return ((how == "paper" and self.paper_moves) or self.moves) if how else None


PAPER = Recipe(
    timesteps=16, width=64, epochs=100, batch_size=128, lr=1e-2, warmup=0.0, augment=False, start="pytorch", recalibrate=0
)  # Table X: MNIST

DIGITS = tuple("0123456789")
SPOKEN = (*(f"English {n}" for n in DIGITS), *(f"German {n}" for n in DIGITS))
CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
GESTURES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter-clockwise",
    "left arm clockwise",
    "left arm counter-clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)

# Augmentation: CIFAR10-DVS has the paper's (Table X), a flip and shifts of up to 5 of 128 and 2.5 of 48 pixels. Fashion-MNIST,
# which the paper only flips, is also moved by up to two pixels, and a little turned and zoomed. MNIST, for which the paper has
# none: handwritten digits differ a little in place, slant and size. scikit-learn's digits are few, so they are moved further.
CATALOGUE = {
    "digits": DataSet(
        Stem(1, 16, 10),
        "images",
        Recipe(batch_size=32, lr=5e-3, warmup=0.5, gain=1.7),
        None,
        DIGITS,
        Moves((1.5 / 16, 1.5 / 16), degrees=12, zoom=0.12),
    ),
    "mnist": DataSet(
        Stem(1, 28, 10),
        "images",
        Recipe(epochs=3, batch_size=32, lr=5e-3, warmup=0.25, gain=1.7),
        PAPER,
        DIGITS,
        Moves((1 / 28, 1 / 28), degrees=7, zoom=0.07),
        IdxFiles(
            "MNIST/raw",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            {
                "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
                "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
                "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
            },
        ),
        paper_samples=60_000,
    ),
    "fashion-mnist": DataSet(
        Stem(1, 28, 10),
        "images",
        Recipe(epochs=5, batch_size=32, lr=5e-3, warmup=0.25, gain=1.7),
        dataclasses.replace(PAPER, augment=True, normalize=True),
        CLOTHES,
        Moves((2 / 28, 2 / 28), degrees=5, zoom=0.05, flip=True),
        IdxFiles(
            "FashionMNIST/raw",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            {
                "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
                "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
                "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
            },
            ("/usr/share/datasets/fashion-mnist",),
        ),
        paper_moves=Moves(flip=True),
        paper_samples=60_000,
    ),
    "gestures": DataSet(
        Stem(2, 32, 11),
        "gestures",
        Recipe(timesteps=8, epochs=15, batch_size=16, warmup=0.5),
        None,
        GESTURES,
        Moves((2 / 32, 2 / 32)),
        events=True,
    ),
    "nmnist": DataSet(
        Stem(2, 34, 10),
        "recordings",
        Recipe(timesteps=10, batch_size=16, warmup=0.5),  # small batches: a copy with few recordings needs the steps
        None,
        DIGITS,
        Moves((2 / 34, 2 / 34), degrees=10, zoom=0.1),
        Recordings(
            "NMNIST",
            "read_bin",
            "number_of_folder",
            ".bin",
            {"train": "Train", "test": "Test"},
            "NMNIST/Train/<digit>/*.bin and NMNIST/Test/<digit>/*.bin",
            1.2,
        ),
        events=True,
    ),
    "dvsgesture": DataSet(
        Stem(2, 128, 11, kernel=7, stride=2, max_pool=True, space_kernel=7),
        "recordings",
        Recipe(timesteps=16, batch_size=16, warmup=0.5, augment=False),  # the paper trains it without augmentation
        dataclasses.replace(PAPER, timesteps=32, epochs=1000, batch_size=32, lr=1e-4),
        (),
        Moves((6 / 128, 6 / 128)),
        Recordings(
            "DVSGesture",
            "read_npy",
            "number_of_file",
            ".npy",
            {"train": "ibmGestureTrain", "test": "ibmGestureTest"},
            "DVSGesture/ibmGestureTrain/<user>_<light>/<label>.npy and DVSGesture/ibmGestureTest/...",
            2.9,
        ),
        events=True,
        paper_samples=1_176,
    ),
    "shd": DataSet(
        Stem(700, 1, 20),
        "sounds",
        # 60 of the 700 channels fire in a step: with a gain of 6 a neuron's current deviates by about a threshold
        Recipe("recurrent", 100, 256, batch_size=128, loss="ce", gain=6.0, augment=False, recalibrate=0),
        None,
        SPOKEN,
        Moves((20 / 700, 0.0)),
        SoundFiles(
            "SHD",
            {"train": "shd_train.h5", "test": "shd_test.h5"},
            ("https://zenkelab.org/datasets/shd_train.h5.zip", "https://zenkelab.org/datasets/shd_test.h5.zip"),
            1.4,
        ),
        maps=False,
    ),
    "cifar10dvs": DataSet(
        Stem(2, 128, 10, stride=2, pool_first=48, max_pool=True),
        "recordings",
        Recipe(timesteps=16, batch_size=16, lr=1e-3),  # the paper's rate
        dataclasses.replace(PAPER, epochs=500, lr=1e-3, augment=True),
        (),
        Moves((5 / 128, 2.5 / 48), flip=True),
        Recordings("CIFAR10DVS", "read_aedat4", "name_of_folder", ".aedat4", {}, "CIFAR10DVS/<class>/*.aedat4", 7.1),
        events=True,
        paper_samples=9_000,
    ),
    "cifar10": DataSet(Stem(3, 32, 10)),  # in the authors' code only
}
NAMES = tuple(name for name, row in CATALOGUE.items() if row.module)  # on the command line

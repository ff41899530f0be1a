"""How to train on each data set where nothing else is asked for: "the data set's own defaults"."""

import dataclasses

__all__ = ["Recipe", "RECIPES"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Defaults of ``train.Options`` for one data set."""

    timesteps: int = 4  # T
    width: int = 16  # channels of the stem
    epochs: int = 30
    batch_size: int = 64
    lr: float = 2e-3
    warmup: float = 1.0  # epochs over which the learning rate rises
    loss: str = "mse"  # the paper's; or "ce"
    optimizer: str = "adam"
    gain: float = 1.0  # initial weight of the batch norms, see train.new_network
    augment: bool = True
    data_options: dict = dataclasses.field(default_factory=dict)  # further arguments of data.load


RECIPES = {
    "digits": Recipe(batch_size=32, lr=5e-3, warmup=0.5, gain=1.7),
    "mnist": Recipe(epochs=3, batch_size=32, lr=5e-3, warmup=0.25, gain=1.7),
    "fashion-mnist": Recipe(epochs=5, batch_size=32, lr=5e-3, warmup=0.25, gain=1.7),
    "gestures": Recipe(timesteps=8, epochs=15, batch_size=16, warmup=0.5),
    "nmnist": Recipe(timesteps=10, batch_size=16, warmup=0.5),  # small batches: a copy with few recordings needs the steps
    "dvsgesture": Recipe(timesteps=16, batch_size=16, warmup=0.5, augment=False),  # the paper trains it without augmentation
    "cifar10dvs": Recipe(timesteps=16, batch_size=16, lr=1e-3),  # the paper's rate
}

"""Natural pruning (Section V-B3): a shortcut whose neurons never fire is removed, and nothing else changes.

With an OR join a silent shortcut y = 0 leaves x + y - x * y = x, and with ADD x + y = x: with either, the network without the
shortcut computes the same numbers, bit for bit. The other joins have no neutral input:

    AND    x * 0 = 0          the join itself falls silent: the layers after it see nothing
    IAND   (1 - x) * 0 = 0    likewise (Table II: the complement of the main branch, AND the shortcut)
    vanilla, MS               the shortcut ends in batch norm, not in neurons; even without a spike it adds a constant

Axes of arrays: T time steps, N batch, C channels, H height, W width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from . import energy, nn
from .models import RESIDUALS, ResNet21

__all__ = ["prune", "Pruned", "shortcut_rates", "without", "scores", "check_join", "prunable"]


def check_join(residual: str) -> None:
    """Raises ValueError, with the reason, if a silent shortcut of this ``residual`` cannot be removed."""
    if why_not := RESIDUALS[residual].why_not:
        raise ValueError(f"a network with residual '{residual}' has nothing to prune: {why_not}")


def prunable(net: nn.Module) -> ResNet21:
    """The network. Raises ValueError, with the reason, if it has no shortcuts that could be removed when they are silent."""
    if not isinstance(net, ResNet21):
        raise ValueError("a network without maps has nothing to prune: it has no shortcuts")
    check_join(net.config.residual)
    return net


@dataclasses.dataclass
class Pruned:
    """What ``prune`` found. Rates are spikes per neuron and time step; shortcuts are numbered 1, 2 and 3."""

    network: ResNet21  # without the shortcuts in ``removed``
    removed: tuple  # numbers of the removed shortcuts
    train_rates: dict  # {shortcut: firing rate on the training set}
    test_rates: dict  # {shortcut: firing rate on the test set}
    kept: tuple  # silent on the training set, but not on the test set: kept, since predictions would change
    scores_before: np.ndarray  # [N, classes] on the test set
    scores_after: np.ndarray
    report_before: energy.Report  # spikes, operations and energy on the test set
    report_after: energy.Report

    @property
    def identical(self) -> bool:
        """Whether the scores on the test set are the same bit for bit."""
        return self.scores_before.tobytes() == self.scores_after.tobytes()


def shortcut_rates(net: ResNet21, batches: Any) -> dict[int, float]:
    """Firing rate of the neurons of each shortcut, in evaluation mode; exactly 0.0 if none of them fired.

    Args:
        net: a network of ``models.build`` whose join is one of models.PRUNABLE.
        batches: arrays or Tensors [T, N, C, H, W]; or one of them.

    Returns:
        {number from 1: spikes per neuron and time step}, for the shortcuts that exist.
    """
    return run(net, batches)[1]


def scores(net: ResNet21, batches: Any) -> np.ndarray:
    """Class scores [N, classes] of all batches in order, in evaluation mode."""
    return run(net, batches)[0]


def run(net, batches):
    """(scores [N, classes], {shortcut: firing rate}, energy.Report), all from one pass in evaluation mode."""
    results = []
    with nn.listen(net, lambda _, out: results.append(out.data)):
        report = energy.measure(net, batches)
    rates = {k: report.rates[f"stages.{k - 1}.shortcut"] for k, stage in enumerate(net.stages, 1) if stage.shortcut is not None}
    return np.concatenate(results), rates, report


def without(net: ResNet21, numbers: Iterable[int]) -> ResNet21:
    """The same network without some of its shortcuts: a new one, with copies of all other parameters and buffers.

    Args:
        net: a network of ``models.build``.
        numbers: of the shortcuts, from 1.

    Returns:
        ResNet21 in evaluation mode.

    Raises:
        ValueError: no such shortcut, or a join that has no neutral input.
    """
    check_join(net.config.residual)
    smaller = ResNet21(dataclasses.replace(net.config, removed=(*net.config.removed, *numbers)), np.random.default_rng(0))
    kept = {name for name, _ in smaller.named_parameters() + smaller.named_buffers()}
    smaller.load_state_dict({name: array for name, array in net.state_dict().items() if name in kept})
    return smaller.eval()


def prune(net: ResNet21, train: Callable[[], Any], test: Callable[[], Any], tolerance: float = 0.0) -> Pruned:
    """Remove the shortcuts that never, or hardly ever, fire on the training set, and check the result on the test set.

    With tolerance 0 predictions stay the same: a shortcut that is silent on the training set, but fires on the test set, is
    kept. With a tolerance above 0 it is removed, whatever happens on the test set.

    Args:
        net: a network of ``models.build`` whose join is one of models.PRUNABLE.
        train, test: functions that return batches, [T, N, C, H, W] each; each set is iterated once or twice.
        tolerance: highest firing rate on the training set, spikes per neuron and time step, of a shortcut to remove.

    Returns:
        Pruned.

    Raises:
        ValueError: a join that has no neutral input, or a set without samples.
    """
    check_join(net.config.residual)
    train_rates = shortcut_rates(net, train())
    before, test_rates, report = run(net, test())
    silent = [k for k, rate in train_rates.items() if rate <= tolerance]
    kept = tuple(k for k in silent if not tolerance and test_rates[k])
    removed = tuple(k for k in silent if k not in kept)
    smaller = without(net, removed)
    after, _, report_after = run(smaller, test()) if removed else (before, test_rates, report)
    return Pruned(smaller, removed, train_rates, test_rates, kept, before, after, report, report_after)

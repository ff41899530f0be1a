"""Recurrent neurons: the spikes of a layer reach it again one step later, forward and backward through time.

Axes: T time steps, N batch, F neurons; M = N * F.

    X'[t] = X[t] + W S[t-1] + b                               with S[-1] = 0
    S[t] = neurons(X'[t])                                     any of lif.py, if_.py, plif.py, alif.py, synaptic.py

(Zenke and Ganguli 2018, "SuperSpike"; Bellec et al. 2018.) Backward, from the last step to the first, the gradient of the
spikes at t has a second part, through the currents of t + 1, and then that of the currents follows from the neurons' own loops:

    dS[t] += W^T dX'[t+1],      dX[t] = dX'[t],      dW = sum over t of dX'[t] S[t-1]^T,      db = sum over t of dX'[t]

The spikes of the step before are events: they add columns of W and multiply nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ledger
from ..engine import Tensor
from .lif import Spiking
from .linear import count_rows, forward_rows, input_gradient, weight_gradient

__all__ = ["recurrent", "Recurrent"]


class Recurrent(Spiking):
    """See ``recurrent``; ``recurrent_kind`` makes it of each kind of neurons, whose loops it runs one step at a time."""

    def run(self, s, state, x, *learned):
        weight, bias = learned[-2:]
        T, M = x.shape
        F = len(bias)
        self.wt, bias = np.ascontiguousarray(weight.T), np.ascontiguousarray(bias)
        first = state[-1].copy()  # spikes of the step before the first
        if not self.smooth and ((first == 0) | (first == 1)).all():
            first = first.astype(np.uint8)
        before, self.steps, self.currents = first, [], np.empty_like(x)
        by_rows = (M // F, F)
        for t in range(T):
            forward_rows(self.currents[t].reshape(by_rows), before.reshape(by_rows), self.wt, bias)
            self.currents[t] += x[t]
            if self.recording:
                self.steps.append(state[:-1].copy())
            super().run(s[t : t + 1], state[:-1], self.currents[t : t + 1], *learned[:-2])
            before = s[t]
        if ledger.is_open():
            count_rows(np.concatenate([first[None], s[:-1]]).reshape(T, *by_rows), F)
        if self.recording:
            self.s, self.first = s.copy(), first
        state[-1] = before

    def rewind(self, dx, dstate, ds):
        T, M = dx.shape
        F = self.wt.shape[1]
        by_rows, given, learned = (M // F, F), (self.x, self.state), []
        back = dstate[-1].copy()  # the gradient of the spikes at t through whatever comes after t
        for t in range(T - 1, -1, -1):
            self.x, self.state = self.currents[t : t + 1], self.steps[t]
            learned.append(super().rewind(dx[t : t + 1], dstate[:-1], (ds[t] + back)[None]))
            input_gradient(back.reshape(by_rows), dx[t].reshape(by_rows), self.wt)
        self.x, self.state = given
        dstate[-1] = back
        dwt, later = np.empty_like(self.wt), np.empty_like(self.wt)
        weight_gradient(dwt, dx[0].reshape(by_rows), self.first.reshape(by_rows))
        if T > 1:
            weight_gradient(later, dx[1:].reshape(-1, F), self.s[:-1].reshape(-1, F))
            dwt += later
        return (*(sum(parts) for parts in zip(*learned)), dwt.T, dx.reshape(-1, F).sum(0))


@functools.cache
def recurrent_kind(kind: type[Spiking]) -> type[Spiking]:
    """The recurrent neurons of that kind: one more variable, the spikes of the last step, and two more learned inputs."""
    more = dict(learned=kind.learned + 2, variables=kind.variables + 1)
    return type(f"Recurrent{kind.__name__}", (Recurrent, kind), more)


def recurrent(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    neurons: Callable[..., Any],
    h0: Tensor | np.ndarray | None = None,
    return_state: bool = False,
    **options: Any,
) -> Any:
    """Neurons whose spikes reach them again one step later; the equations are in the module docstring.

    Args:
        x: input current, [T, N, F], in units of the threshold.
        weight: W, [F, F].
        bias: b, [F].
        neurons: ``ops.lif``, ``if_``, ``plif``, ``alif`` or ``synaptic``.
        h0: the state before the first step, [variables + 1, N, F]: that of the neurons, and then their last spikes; by default
            at rest and silent.
        return_state: return the state after the last step too.
        **options: further arguments of ``neurons``, such as tau, or w of ``plif``.

    Returns:
        Spikes, [T, N, F]; with ``return_state`` (spikes, [variables + 1, N, F]).

    Raises:
        ValueError: shapes that do not fit together; or as ``neurons``.
        TypeError, FloatingPointError: as ``neurons``.
    """
    if x.ndim != 3 or weight.shape != x.shape[-1:] * 2 or bias.shape != x.shape[-1:]:
        raise ValueError(f"recurrent: x {x.shape}, weight {weight.shape}, bias {bias.shape}; give [T, N, F], [F, F] and [F]")
    return neurons(x, h0=h0, return_state=return_state, recurrent=(recurrent_kind, weight, bias), **options)

"""The integrate-and-fire neuron: the leaky one of lif.py without its leak.

    U[t] = H[t-1] + X[t]                                      charge
    S[t] = Theta(U[t] - U_threshold)                          fire
    H[t] = U[t] (1 - S[t]) + U_reset S[t]                     reset

(Abbott 1999, "Lapicque's introduction of the integrate-and-fire model neuron"; SpikingJelly's IFNode.) With a leak of 0 and a
gain of 1 the charge of Eq. 2 is this one to the bit, and so is its derivative, dU/dH = dU/dX = 1: the loops are those of
lif.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine import Tensor
from ..surrogate import ATan, Surrogate
from .lif import LIF, ChannelLIF, by_channel, carry, check_neurons, constant, neuron

__all__ = ["if_", "IF"]


class IF(LIF):
    """See ``if_``."""

    op = "if"


class ChannelIF(ChannelLIF):
    """See ``if_``: a threshold for each channel."""

    op = "if"


def if_(
    x: Tensor,
    v_threshold: float | np.ndarray = 1.0,
    v_reset: float | None = 0.0,
    surrogate: Surrogate = ATan(),
    detach_reset: bool = True,
    smooth: bool = False,
    h0: Tensor | np.ndarray | None = None,
    return_state: bool = False,
    recurrent: Any = None,
) -> Any:
    """Integrate-and-fire neurons, which keep their charge until they fire; the equations are in the module docstring.

    Args:
        x: input current, [T, ...], in units of the threshold.
        v_threshold, v_reset, surrogate, detach_reset, smooth, h0, return_state, recurrent: as for ``lif``.

    Returns:
        Spikes, [T, ...]; with ``return_state`` (spikes, potential [...]).

    Raises:
        ValueError, TypeError, FloatingPointError: as ``lif`` does.
    """
    check_neurons(x, surrogate, "if")
    v_threshold = constant("v_threshold", v_threshold)
    options: dict[str, Any] = dict(
        h0=h0, return_state=return_state, recurrent=recurrent, surrogate=surrogate, smooth=bool(smooth)
    )
    shared: dict[str, Any] = dict(v_reset=v_reset, detach_reset=detach_reset, decay_input=False)
    if isinstance(v_threshold, float):
        n = neuron(x.dtype, 1.0, v_threshold, **shared)
        return carry(IF, x, n=n._replace(leak=n.zero), **options)
    n, leak, v = by_channel(x.shape, x.dtype, 1.0, v_threshold, **shared)
    return carry(ChannelIF, x, n=n, leak=np.zeros_like(leak), v=v, **options)

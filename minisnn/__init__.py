"""minisnn: spiking networks from scratch, in NumPy and Numba, for a CPU.

    import minisnn as snn
    from minisnn import models, ops, optim
"""

from . import engine, errors, ledger, models, nn, ops, optim, surrogate
from .engine import Function, Tensor, is_grad_enabled, manual_seed, no_grad
from .errors import UsageError
from .gradcheck import GradientMismatch, gradcheck
from .memory import keep_freed_memory
from .threads import get_num_threads, set_num_threads

keep_freed_memory()
__version__ = "0.1.0"

__all__ = ["Tensor", "Function", "no_grad", "is_grad_enabled", "manual_seed", "gradcheck", "GradientMismatch", "UsageError",
           "set_num_threads", "get_num_threads", "engine", "errors", "ledger", "models", "nn", "ops", "optim", "surrogate"]

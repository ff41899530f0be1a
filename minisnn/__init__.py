"""minisnn: spiking networks from scratch, in NumPy and Numba, for a CPU.

    import minisnn as snn
    from minisnn import models, ops, optim

The engine is imported on first use, so ``minisnn --help`` responds immediately, and Ctrl-C works while
compiled loops are read from disk.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "engine": ("Tensor", "Function", "no_grad", "is_grad_enabled", "manual_seed"),
    "errors": ("UsageError",),
    "gradcheck": ("gradcheck", "GradientMismatch"),
    "threads": ("set_num_threads", "get_num_threads"),
}
_PARTS = ("engine", "errors", "interop", "ledger", "models", "nn", "ops", "optim", "surrogate")

__all__ = [*(name for names in _HOMES.values() for name in names), *_PARTS]  # noqa: PLE0604 - all of them are strings


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module(".memory", __name__).keep_freed_memory()
    if name in _PARTS and name != "engine":  # alone: a module of the package that asks for it may be half loaded itself
        return importlib.import_module(f".{name}", __name__)
    for part in _PARTS:  # the engine brings in the operations, which are also methods of its tensors
        importlib.import_module(f".{part}", __name__)
    for home, names in _HOMES.items():
        module = importlib.import_module(f".{home}", __name__)
        globals().update({name: getattr(module, name) for name in names})
    return globals()[name]


def __dir__():
    return sorted({*globals(), *__all__})

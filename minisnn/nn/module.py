"""Module: what holds parameters, knows its parts by name, and can be called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .. import ledger
from ..engine import Tensor
from ..types import DType
from .listening import heard

__all__ = ["Module", "Layer", "Parameter", "Sequential", "ModuleList"]


M = TypeVar("M", bound="Module")


class Parameter(Tensor):
    """A Tensor that is learned: it always requires a gradient, and ``Module.parameters()`` finds it and gives it its dotted
    ``name``, for error messages.
    """

    __slots__ = ("name",)

    def __init__(self, data: Any, dtype: DType | None = None) -> None:
        super().__init__(data, requires_grad=True, dtype=dtype)
        self.name = ""


class Module:
    """The base of every layer. Assigning a Parameter, an ndarray (a buffer: saved, not learned) or another Module to an
    attribute registers it; they are listed in order of assignment. Anything assigned in several
    places is listed once, under the first of its names: shared weights are counted, learned and saved once. Modules in a plain
    list would be found by none of these walks: they belong into a ModuleList, and anything else is refused.

    A subclass defines ``forward``; calling the module runs it.
    """

    training = True
    needs_all_steps = False  # whether it combines time steps, so that they must come in one call (nn.Stream)
    one_layer: tuple[str, ...] = ()  # attributes whose modules are one layer to the reader, under this module's name
    _name = ""  # its name in a ledger, within the outermost module that was called

    if TYPE_CHECKING:  # what is assigned to a module is a parameter, a buffer, a module or anything else

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    def forward(self, *inputs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        if ledger.is_open():
            with ledger.scope(self._name):
                output = self._run(*inputs, **options)
        else:
            output = self._run(*inputs, **options)
        for module, callback in heard():
            if module is self:
                callback(inputs, output)
        return output

    def _run(self, *inputs, **options):
        return self.forward(*inputs, **options)

    def __repr__(self) -> str:
        """The tree of parts: names, classes, shapes of parameters, constants."""
        lines = [f"{type(self).__name__}({', '.join(facts(self))})"]
        for name, child in self.named_children():
            first, *rest = repr(child).splitlines()
            lines += [f"  {name}: {first}", *("  " + line for line in rest)]
        return "\n".join(lines)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of each direct part. Raises TypeError if some are hidden in a plain list, tuple or dict."""
        for name, value in vars(self).items():
            if type(value) in (list, tuple, dict):
                check_for_modules(f"{type(self).__name__}.{name}", value)
        return iter(first_of_each((name, value) for name, value in vars(self).items() if isinstance(value, Module)))

    def named_modules(self, prefix: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Module]]:
        """(dotted name, module) of this module and all of its parts, depth first; ``seen`` is for the recursion."""
        seen = set() if seen is None else seen
        if id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name, seen)

    def named_layers(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of this module and all of its parts, by the names that a ledger and the reports use: dotted
        names, except that what a module lists in ``one_layer`` takes that module's name.
        """
        joined: dict[int, str] = {}
        for name, module in self.named_modules():
            name = joined.get(id(module), name)
            joined |= {id(getattr(module, part)): name for part in module.one_layer}
            yield name, module

    def modules(self) -> list[Module]:
        """This module and all of its parts, depth first."""
        return [module for _, module in self.named_modules()]

    def _named(self, kind):
        found = []
        for prefix, module in self.named_modules():
            found += [
                (f"{prefix}.{name}" if prefix else name, value)
                for name, value in vars(module).items()
                if isinstance(value, kind)
            ]
        return first_of_each(found)

    def named_parameters(self) -> list[tuple[str, Parameter]]:
        """[(dotted name, Parameter)] in definition order."""
        named = self._named(Parameter)
        for name, p in named:
            p.name = name
        return named

    def parameters(self) -> list[Parameter]:
        """[Parameter] in definition order."""
        return [p for _, p in self.named_parameters()]

    def named_buffers(self) -> list[tuple[str, np.ndarray]]:
        """[(dotted name, ndarray)] in definition order."""
        return self._named(np.ndarray)

    def buffers(self) -> list[np.ndarray]:
        """[ndarray] in definition order."""
        return [b for _, b in self.named_buffers()]

    def state_dict(self) -> dict[str, np.ndarray]:
        """{dotted name: ndarray} of all parameters and buffers: copies, in C order."""
        arrays = [(name, p.data) for name, p in self.named_parameters()] + self.named_buffers()
        return {name: array.copy("C") for name, array in arrays}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Load what ``state_dict`` returned.

        Raises:
            ValueError: names or shapes that are not this module's, or arrays that are not numeric; then nothing is changed.
        """
        own = dict([(name, p.data) for name, p in self.named_parameters()] + self.named_buffers())
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unknown:
            raise ValueError(
                f"these parameters are of another model: {len(missing)} missing "
                f"(first: {next(iter(missing), '-')}), {len(unknown)} unknown (first: {next(iter(unknown), '-')})"
            )
        for name, array in own.items():
            given = np.asarray(state[name])
            if given.shape != array.shape:
                raise ValueError(f"these parameters are of another model: {name} has shape {given.shape}, not {array.shape}")
            if given.dtype.kind not in "biuf":
                raise ValueError(f"{name} holds {given.dtype}; give an array of numbers")
        for name, array in own.items():
            array[...] = state[name]
        for p in self.parameters():
            p.changed_in_place()

    def train(self: M, mode: bool = True) -> M:
        """Training mode: batch norm uses the statistics of the batch and moves the running ones towards them."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """Evaluation mode: running statistics, so that a sample's result does not depend on its batch."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Clear all gradients."""
        for p in self.parameters():
            p.grad = None

    def name_parts(self: M) -> M:
        """Give every part the name that a ledger's entries carry."""
        for name, module in self.named_layers():
            module._name = name
        return self


def facts(module):
    """Words for what a module was made with: shapes of its own parameters, and its constants."""
    for name, value in vars(module).items():
        if isinstance(value, Parameter):
            yield f"{name} {list(value.shape)}"
        elif name == "options":
            yield from (f"{key}={constant!r}" for key, constant in value.items() if isinstance(constant, (int, float)))
        elif not name.startswith("_") and isinstance(value, (int, float, str, tuple)) and not isinstance(value, bool):
            yield f"{name}={value!r}"


def check_for_modules(name, value):
    """Refuse a list, tuple or dict that holds modules or parameters."""
    if any(isinstance(item, (Module, Parameter)) for item in (value.values() if isinstance(value, dict) else value)):
        raise TypeError(
            f"{name} is a plain {type(value).__name__} that holds modules or parameters, where training, saving and evaluation "
            "mode would not find them; put modules into nn.ModuleList([...]), and assign each parameter to an attribute"
        )


def first_of_each(named):
    """[(name, thing)] without those whose thing appeared earlier, under another name."""
    seen, found = set(), []
    for name, thing in named:
        if id(thing) not in seen:
            seen.add(id(thing))
            found.append((name, thing))
    return found


class Layer(Module):
    """A Module that takes arrays, as networks do: an ndarray that it is called with becomes a Tensor of the dtype of its
    parameters, or of its own if there are none.
    """

    def _run(self, *inputs, **options):
        return self.forward(*self.tensors(inputs), **options)

    def tensors(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The inputs, arrays among them as Tensors."""
        if not any(isinstance(x, np.ndarray) for x in inputs):
            return inputs
        dtype = next((p.dtype for p in self.parameters()), None)
        return tuple(Tensor(x, dtype=dtype) if isinstance(x, np.ndarray) else x for x in inputs)


class Sequential(Layer):
    """Modules one after another."""

    def __init__(self, *modules: Module) -> None:
        for k, module in enumerate(modules):
            setattr(self, str(k), module)

    def __iter__(self) -> Iterator[Module]:  # a module that is listed twice runs twice
        return (module for module in vars(self).values() if isinstance(module, Module))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, k: int) -> Module:
        return list(self)[k]

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x


class ModuleList(Sequential):
    """A list of modules, which their owner calls one by one.

    Args:
        modules: one after another, or a single list of them.
    """

    def __init__(self, *modules: Any) -> None:
        single = len(modules) == 1 and not isinstance(modules[0], Module)
        super().__init__(*(modules[0] if single else modules))

    def append(self, module: Module) -> None:
        """Add a module at the end."""
        setattr(self, str(len(self)), module)

    def forward(self, *inputs: Any) -> Any:
        raise NotImplementedError("a ModuleList is not called itself; call its modules")

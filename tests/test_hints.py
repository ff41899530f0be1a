"""The public API has type hints throughout: what a module exports, and the public methods of what it exports."""

import importlib
import inspect
import pathlib

import pytest

import minisnn
from minisnn import Function

ROOT = pathlib.Path(minisnn.__file__).parent
MODULES = sorted(
    ".".join(("minisnn", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if path.name != "__main__.py" and path.parent.name != "cli"
)


def without_hints(function):
    """Names of the parameters of a function that have no hint, and "return"."""
    parameters = inspect.signature(function).parameters
    return [name for name, p in parameters.items() if p.annotation is p.empty and name not in ("self", "cls")] + (
        ["return"] if inspect.signature(function).return_annotation is inspect.Signature.empty else []
    )


def functions_of(module):
    """(name, function) of what a module defines and exports: compiled loops have the types of their callers."""
    for name in getattr(module, "__all__", ()):
        thing = getattr(module, name)
        if getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(thing) and not hasattr(thing, "dispatcher"):
            yield name, thing
        elif inspect.isclass(thing) and not issubclass(thing, (Function, tuple)):
            written = "__init__" if "__init__" in vars(thing) and not hasattr(thing, "__dataclass_fields__") else ""
            for method, value in vars(thing).items():
                function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
                public = method == written or not method.startswith("_")
                if inspect.isfunction(function) and public and function.__name__ != "<lambda>":
                    yield f"{name}.{method}", function


@pytest.mark.parametrize("name", MODULES)
def test_what_is_exported_has_type_hints(name):
    found = functions_of(importlib.import_module(name))
    assert not {name: missing for name, function in found if (missing := without_hints(function))}

"""Weights by name, and as safetensors files: no pickle, no PyTorch.

A safetensors file does not keep the order in which arrays were given. The entry ``order`` of its metadata lists the names, one
a line, module by module: first the module's parameters, then its buffers, as PyTorch's ``state_dict`` does. A
network of the same plan that uses other names is filled by walking both lists.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from .. import files
from ..errors import UsageError
from ..nn import Module
from ..types import Path

__all__ = ["load_arrays", "save_safetensors", "load_safetensors", "read_safetensors"]

COUNTER = "num_batches_tracked"  # PyTorch's batch norm counts its batches; nothing here depends on it
BUFFERS = ("running_mean", "running_var")  # the last part of a buffer's name, here and in PyTorch
ORDER = "order"
# The types of safetensors that NumPy has.
DTYPES = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
}
DTYPES |= {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
OF_PYTORCH = (".pt", ".pth", ".ckpt", ".bin")
CONVERT = (
    "import torch; from safetensors.torch import save_file; s = torch.load({path!r}, map_location='cpu', weights_only=True); "
    "save_file({{k: v.contiguous() for k, v in s.items()}}, {target!r}, {{'order': '\\n'.join(s)}})"
)


def needed(name: str) -> ModuleType:
    """A module of the extra ``exchange``. Raises UsageError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise UsageError(f"this needs the package {package}; install it with: pip install 'minisnn[exchange]'") from None


def in_order(net: Module) -> list[str]:
    """Names of all parameters and buffers, module by module, as PyTorch's ``state_dict`` lists them."""
    names = [name for name, _ in net.named_parameters() + net.named_buffers()]
    modules = {prefix: k for k, (prefix, _) in enumerate(net.named_modules())}
    return sorted(names, key=lambda name: modules[name.rpartition(".")[0]])  # stable: parameters stay before buffers


def own_names(net: Module, arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """{our name: the given name} of arrays that are in definition order. Raises ValueError if the two lists do not match."""
    pairs: dict[str, str] = {}
    given = [name for name in arrays if name.rpartition(".")[2] != COUNTER]
    lists: tuple[tuple[str, list[tuple[str, Any]], list[str]], ...] = (
        ("parameters", [*net.named_parameters()], [name for name in given if name.rpartition(".")[2] not in BUFFERS]),
        ("buffers", [*net.named_buffers()], [name for name in given if name.rpartition(".")[2] in BUFFERS]),
    )
    for what, ours, theirs in lists:
        for k, ((name, own), other) in enumerate(zip(ours, theirs), 1):
            shape = np.shape(arrays[other])
            if shape != own.shape:
                raise ValueError(
                    f"these arrays are of another model: number {k} of the {what}, {other}, has shape {shape}, but {name} has "
                    f"{own.shape}"
                )
            pairs[name] = other
        if len(ours) != len(theirs):
            first = f"{ours[len(theirs)][0]} has none" if len(ours) > len(theirs) else f"{theirs[len(ours)]} is one too many"
            raise ValueError(
                f"these arrays are of another model: there are {len(theirs)} {what}, but the network has {len(ours)} ({first})"
            )
    return pairs


def load_arrays(net: Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Fill a network with arrays: all of them, or none if one does not fit.

    Where at least half of the network's names are given, the arrays are taken by name. Other names, such as those of a
    SpikingJelly network of the same plan, are matched in definition order: the parameters, and apart from them the running
    means and variances, each the first with the first. PyTorch's ``num_batches_tracked`` is skipped.

    Args:
        net: any Module; it keeps its dtype.
        arrays: {name: ndarray}, such as ``{name: t.numpy() for name, t in net.state_dict().items()}`` of PyTorch.

    Raises:
        ValueError: names the first array that is missing, is one too many, has another shape, or holds something other than
            finite numbers.
    """
    arrays = {name: np.asarray(array) for name, array in arrays.items() if name.rpartition(".")[2] != COUNTER}
    ours = {name for name, _ in net.named_parameters() + net.named_buffers()}
    if 2 * len(ours & arrays.keys()) < len(ours):
        arrays = {name: arrays[other] for name, other in own_names(net, arrays).items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{name} holds {array.dtype}; give an array of numbers")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinity; give finite numbers")
    net.load_state_dict(arrays)


def save_safetensors(net: Module, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a network's parameters and buffers as a safetensors file, by our names.

    Args:
        net: any Module.
        path: of the file; it is replaced in one go.
        metadata: {name: text} to write in addition to ``order`` and, for a network of ``models``, ``network``: its
            arguments, as JSON.

    Raises:
        UsageError: the package safetensors is missing. OSError: the file cannot be written; the old one is then untouched.
    """
    numpy_api = needed("safetensors.numpy")
    facts = {ORDER: "\n".join(in_order(net))}
    config = getattr(net, "config", None)
    if config is not None and not getattr(net, "constants", None):  # constants of its neurons are no part of a config
        import dataclasses

        facts["network"] = json.dumps(dataclasses.asdict(config))
    arrays = {name: np.ascontiguousarray(array) for name, array in net.state_dict().items()}
    content = numpy_api.save(arrays, facts | dict(metadata or {}))
    with files.replace(path) as file:
        file.write(content)


def parsed(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(arrays, metadata) of the bytes of a safetensors file: eight bytes that tell the length of a header in JSON, the header,
    which gives each array's type, shape and place, and the arrays, one after another without gaps.

    Raises:
        ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError: it is none.
    """
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > len(content) - 8:
        raise ValueError(f"its header claims {length:,} bytes of {len(content):,}")
    header, body = json.loads(content[8 : 8 + length].decode("utf-8")), memoryview(content)[8 + length :]
    metadata = header.pop("__metadata__", {})
    if not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("its metadata holds something other than text")
    arrays, at = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape, (start, stop) = np.dtype(DTYPES[entry["dtype"]]), entry["shape"], entry["data_offsets"]
        size = dtype.itemsize
        for n in shape:
            if not isinstance(n, int) or n < 0:
                raise ValueError(f"{name} has shape {shape}")
            size *= n
        if start != at or stop - start != size or stop > len(body):
            raise ValueError(f"{name} is not where its shape puts it")
        arrays[name], at = np.frombuffer(body[start:stop], dtype).reshape(shape).copy(), stop
    if at != len(body):
        raise ValueError(f"{len(body) - at:,} bytes belong to no array")
    return dict(sorted(arrays.items())), metadata


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(arrays, metadata) of a safetensors file, the arrays in the order that its metadata lists.

    Raises:
        UsageError: the file cannot be read, is not a safetensors file, or is damaged; a file of PyTorch is refused with the
            line of Python that converts it.
    """
    path = str(path)
    try:
        with open(path, "rb") as file:
            start = file.read(2)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}); check the path and its permissions") from None
    if path.endswith(OF_PYTORCH) or start in (b"PK", b"\x80\x02"):
        line = CONVERT.format(path=path, target=path.rpartition(".")[0] + ".safetensors")
        raise UsageError(
            f"{path} is a file of pickle or a zip archive, which may run code when it is opened; where PyTorch is installed, "
            f'convert it with: python -c "{line}"'
        )
    if start == b"\x89H":
        raise UsageError(f"{path} is a file of NIR, a graph that need not be one of the networks here; read it with load_nir")
    try:
        with open(path, "rb") as file:
            arrays, metadata = parsed(file.read())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:  # JSON of any other shape
        raise UsageError(
            f"{path} is not a safetensors file, is damaged, or holds numbers that NumPy lacks ({files.first_line(error)}); "
            "write it again, as float32"
        ) from None
    names = metadata.get(ORDER, "").split("\n") if metadata.get(ORDER) else sorted(arrays)
    if sorted(names) != sorted(arrays):
        raise UsageError(f"{path} lists names under '{ORDER}' that are not those of its arrays; write it again")
    return {name: arrays[name] for name in names}, metadata


def load_safetensors(net: Module, path: Path) -> dict[str, str]:
    """Fill a network with the arrays of a safetensors file, as ``load_arrays`` does; returns the file's metadata.

    A file with names other than ours must list them under ``order`` in its metadata (see the module docstring).

    Raises:
        UsageError: names the file, and what is wrong with it; the network is then unchanged.
    """
    arrays, metadata = read_safetensors(path)
    fill(net, path, arrays, metadata)
    return metadata


def fill(net: Module, path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Fill a network with what ``read_safetensors`` returned. Raises UsageError as ``load_safetensors`` does."""
    ours = {name for name, _ in net.named_parameters() + net.named_buffers()}
    if ORDER not in metadata and 2 * len(ours & arrays.keys()) < len(ours):
        raise UsageError(
            f"{path} has names other than ours and does not tell their order, which safetensors does not keep; write it with "
            "metadata {'order': '\\n'.join(names)}"
        )
    try:
        load_arrays(net, arrays)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None

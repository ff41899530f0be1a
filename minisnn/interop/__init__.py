"""Networks in and out: arrays by name, safetensors files, graphs of NIR."""

from .arrays import load_arrays, load_safetensors, save_safetensors
from .graphs import from_nir, load_nir, save_nir, to_nir

__all__ = ["load_arrays", "save_safetensors", "load_safetensors", "to_nir", "from_nir", "save_nir", "load_nir"]

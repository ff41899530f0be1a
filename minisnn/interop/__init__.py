"""Weights in and out: arrays by name, safetensors files."""

from .arrays import load_arrays, load_safetensors, save_safetensors

__all__ = ["load_arrays", "save_safetensors", "load_safetensors"]

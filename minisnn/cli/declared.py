"""Declared options (options.py) as options of a command."""

import argparse
from collections.abc import Mapping
from typing import Any

from ..kinds import switch
from ..options import EVENT_OPTIONS, OPTIONS, Option, flag, recipe_default

__all__ = ["add_declared", "given", "given_for_data"]


def add_declared(parser: argparse.ArgumentParser, options: Mapping[str, Option]) -> None:
    """Add options to a command, in their groups. Options that are not given stay None."""
    groups: dict[str, Any] = {}
    for name, option in options.items():
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        words = [option.short] if option.short else []
        how: dict[str, Any] = {"dest": name, "default": None, "help": option.help + recipe_default(name)}
        if option.kind is not switch:
            how |= {
                "type": str if option.kind.choices else option.kind,
                "choices": option.kind.choices or None,
                "metavar": option.metavar,
            }
        elif name in OPTIONS:
            how["action"] = argparse.BooleanOptionalAction
        else:
            how["action"] = "store_true"
        groups[option.group].add_argument(*words, flag(name), **how)


def given(options: argparse.Namespace) -> dict[str, Any]:
    """The options of training that were given: arguments of ``Options``."""
    found = {name: getattr(options, name) for name in OPTIONS if getattr(options, name, None) is not None}
    extra = given_for_data(options)
    return found | ({"data_options": extra} if extra else {})


def given_for_data(options: argparse.Namespace) -> dict[str, Any]:
    """The options of event data that were given: arguments of ``data.load``."""
    return {name: getattr(options, name) for name in EVENT_OPTIONS if getattr(options, name) is not None}

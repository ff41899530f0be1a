"""The command line: finds the command, reads its options, turns errors into one line and an exit status.

Each command is a row of ``COMMANDS`` and a module of that name (import_.py where Python has the word for itself), which is
imported when the command is called:

    def add_arguments(parser)       # argparse
    def run(options)                # prints the readable output; returns the dict that --json prints

Exit status: 0 done, 2 a wrong argument, unusable input, or output that cannot be written, 130 stopped by Ctrl-C, 128 + n
stopped by another signal n.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import json
import keyword
import sys
from collections.abc import Sequence
from types import ModuleType

from .. import files, parallel, stopping
from ..errors import UsageError
from ..kinds import whole
from ..terminal import STANDARD_OUTPUT, shown, streams

__all__ = ["main", "COMMANDS", "parser_of"]

# Command: what it does. The text is here so that `minisnn --help` does not have to import them all.
COMMANDS = {
    "train": "train a network; writes the folder of the run",
    "evaluate": "test accuracy, confusion matrix, spikes and energy of a run",
    "energy": "spikes, operations and energy of a run, layer by layer",
    "prune": "remove the shortcuts that have fallen silent",
    "export": "write the network of a run for other programs",
    "import": "make a run of a network from another program",
    "ablate": "train and measure many systems",
    "compare": "paired differences between the systems of an ablation",
    "plot": "draw the figures of a run",
    "report": "write a run up as one HTML file",
    "bench": "time the engine on this machine",
    "compile": "compile every kernel ahead, on all cores",
    "show": "draw a sample of a data set, or list the layers of a network",
}

MOST_HELPERS = 7  # processes that compile beside the program; of a few dozen kernels more would mostly compile what others have

USAGE = """usage: minisnn COMMAND [OPTION ...]
       minisnn COMMAND --help

Spiking networks from scratch: train, measure and prune SynA-ResNet21 on a CPU.

commands:
{commands}

`minisnn train` alone trains on scikit-learn's handwritten digits, in a few minutes.
"""


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default to an option's help, if it has one worth mentioning."""

    def _get_help_string(self, action):
        if action.default in (None, False, True) or "default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """One line for an error, and no abbreviated options: `--epoch` is a mistake, not `--epochs`."""

    def __init__(self, **options):
        super().__init__(**options, formatter_class=HelpFormatter, allow_abbrev=False)

    def error(self, message):
        if parallel.speaks():
            print(shown(f"{self.prog}: {message}; see {self.prog} --help"), file=sys.stderr)
        sys.exit(2)


def parser_of(command: str) -> tuple[argparse.ArgumentParser, ModuleType]:
    """(parser, module) of a command, including the options that all commands share."""
    name = f"{command}_" if keyword.iskeyword(command) else command
    text, module = COMMANDS[command], importlib.import_module(f".{name}", __name__)
    parser = Parser(prog=f"minisnn {command}", description=getattr(module, "DESCRIPTION", f"{text[0].upper()}{text[1:]}."))
    module.add_arguments(parser)
    shared = parser.add_argument_group("options of every command")
    shared.add_argument("--seed", type=whole(0), default=0, metavar="N", help="of all random numbers")
    shared.add_argument("--threads", type=whole(), metavar="N", help="threads to compute with (default: all cores)")
    shared.add_argument("--json", action="store_true", help="print the result as one JSON object on the last line")
    return parser, module


def usage():
    width = max(map(len, COMMANDS))
    return USAGE.format(commands="\n".join(f"  {name.ljust(width)}  {text}" for name, text in COMMANDS.items()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    status = 1
    with streams():
        try:
            status = attempt(list(sys.argv[1:] if arguments is None else arguments))
        finally:
            parallel.end(status)
    return status


def attempt(arguments):
    """The exit status of a command line; an error is said in one line."""
    try:
        with stopping.listening():
            status = dispatch(arguments)
            sys.stdout.flush()  # here, where a full disk is still one line
            return status
    except KeyboardInterrupt as stop:
        complain(str(stop) or "stopped")
        return getattr(stop, "status", 130)
    except (UsageError, FloatingPointError) as error:
        complain(error)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        complain(f"{name}{error.strerror or error}; {files.remedy(error)}")
        if error.filename == STANDARD_OUTPUT:
            drop_output()
    except MemoryError:
        complain("out of memory; lower --batch-size, --timesteps or --width")
    return 2


def dispatch(arguments):
    """The exit status of a command line."""
    command, *rest = arguments or [""]
    if command in ("", "-h", "--help", "help"):
        print(usage(), end="", file=sys.stdout if command else sys.stderr)
        return 0 if command else 2
    if command in ("-V", "--version"):
        from .. import __version__

        print(f"minisnn {__version__}")
        return 0
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else "see minisnn --help"
        raise UsageError(f"there is no command '{command}'; {hint}")
    return run(command, rest)


def complain(text):
    if not parallel.speaks():
        return
    with contextlib.suppress(OSError):  # nowhere to say it
        print(f"minisnn: {shown(text)}", file=sys.stderr, flush=True)


def drop_output():
    """What standard output still holds cannot be written: keep Python from trying again, and complaining, as it exits."""
    drop = getattr(sys.stdout, "drop", None)
    if drop is not None:
        sys.stdout.note = lambda: None  # type: ignore[union-attr]
        drop()


def run(command, arguments):
    parser, module = parser_of(command)
    try:
        options = parser.parse_args(arguments)
    except SystemExit as stop:  # argparse has said what there is to say
        return stop.code or 0
    options.arguments = arguments
    check_launch(command, options)
    from .. import jit, memory, threads

    memory.keep_freed_memory()
    with contextlib.ExitStack() as stack:
        on_first = None
        if command == "train" and not options.mpi:
            from .. import rehearsal

            on_first = stack.enter_context(rehearsal.Helpers(min(threads.get_num_threads() - 1, MOST_HELPERS))).begin
        if parallel.launched()[1] == 0:
            stack.enter_context(jit.announcing_compilation(on_first))
        return carry_out(module, options)


def check_launch(command, options):
    """Raise UsageError where several processes were started that would all do the same."""
    count, _ = parallel.launched()
    if count > 1 and not getattr(options, "mpi", False):
        raise UsageError(
            f"mpiexec started {count} processes; "
            + ("add --mpi, with which they share the work" if command == "train" else f"start `{command}` without it")
        )


def carry_out(module, options):
    """The exit status of a command whose options are read: its result is printed, or its error said in one line."""
    from .. import threads

    if options.threads is not None:
        try:
            threads.set_num_threads(options.threads)
        except ValueError as error:
            raise UsageError(f"--threads: {error}") from None
    result = module.run(options)
    if options.json and parallel.rank() == 0:
        print(json.dumps(result), flush=True)
    return module.status(result) if hasattr(module, "status") else 0

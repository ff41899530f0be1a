"""Trained runs that come with the package: `minisnn evaluate zoo:digits-syna-t`, and likewise energy, prune, plot, report.

Each is a safetensors file beside this page: parameters and running statistics, rounded to float16, with the configuration and
the record of training. The figures here are those of the rounded network on the data set's test samples.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import tempfile

from ..errors import UsageError
from ..options import Options

__all__ = ["ZOO", "Entry", "unpacked"]

FOLDER = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Entry:
    """A run of the zoo."""

    sha256: str  # of its file
    accuracy: float  # on the test samples
    spikes: float  # per sample
    energy_mj: float  # per sample


ZOO: dict[str, Entry] = {
    "digits-syna-t": Entry("e56a05a21cdf6119b39d8488f7ad87a6bdedf91602ac9ef0a1069145fb116069", 0.9833, 20921, 0.005281),
    "digits-or": Entry("a2fba1bf59fb5e935257b990ffcc6017178b3ec3d4e9ae8ea831e9cb35c59773", 0.9889, 23609, 0.005482),
    "nmnist-syna-t": Entry("749972a4df80a741b0f938ad07ee4fd019e63d26b7dfe94201b6e55b6ad30e0a", 0.9400, 70415, 0.04594),
    "gestures-syna-t": Entry("75e638cd121c0141cc2dabe3e5c87aeecfbab2bbac8b0e16d4c8af628a0ef025", 1.0000, 41836, 0.02892),
}


def unpacked(name: str) -> pathlib.Path:
    """The folder of a run of the zoo: in the user's cache, where it is written the first time it is asked for, or if that
    cannot be written, in the system's folder for temporary files.

    Raises:
        UsageError: there is no run of that name, or its file is damaged.
    """
    from ..interop import folders
    from ..interop.arrays import read_safetensors

    if name not in ZOO:
        raise UsageError(f"there is no run 'zoo:{name}'; give one of {', '.join(f'zoo:{known}' for known in ZOO)}")
    file = FOLDER / f"{name}.safetensors"
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror or error}); install minisnn again") from None
    if found != ZOO[name].sha256:
        raise UsageError(f"{file} is damaged: its checksum is another; install minisnn again")
    path = pathlib.Path(os.path.expanduser("~"), ".cache", "minisnn", "zoo", f"{name}-{found[:12]}")
    if not complete(path):
        arrays, metadata = read_safetensors(file)
        known = folders.known(metadata, file)
        write = (Options(**known.options), known, f"zoo:{name}", arrays, metadata, f"minisnn evaluate zoo:{name}")
        try:
            folders.write(path, *write)
        except UsageError:
            if not complete(path):  # another process may have been faster
                path = pathlib.Path(tempfile.mkdtemp(prefix="minisnn-zoo-"), name)
                folders.write(path, *write)
    return path


def complete(path):
    """Whether a run has been unpacked there."""
    return (path / "config.json").exists() and (path / "last.npz").exists()

"""Files that are either there in full or not at all; and checkpoints: named arrays with facts, without pickle.

A checkpoint is an .npz file: the arrays, and under the name "facts" a JSON text that holds the version of the format.
"""

import contextlib
import json
import os
import secrets
import zipfile

import numpy as np

from .errors import UsageError

__all__ = ["save", "load", "replace", "write_text", "FORMAT"]

FORMAT = 1  # of the file; a newer one is refused by name
FACTS = "facts"


@contextlib.contextmanager
def replace(path):
    """A binary file to write in the place of ``path``: it takes its name only when the block ends without an error.

    The old file stays whole until then, and for good where the block fails.
    """
    path = os.path.abspath(os.fspath(path))
    temporary = f"{path}.{os.getpid()}-{secrets.token_hex(4)}.part"  # beside it: a rename works within one file system only
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if getattr(error, "filename", None) == temporary:
            error.filename = path  # the name that the user knows
        raise


def write_text(path, text):
    """Write a text file in one go, as ``replace`` does."""
    with replace(path) as file:
        file.write(text.encode())


def save(path, arrays, facts=None):
    """Write a checkpoint.

    Args:
        path: of the .npz file.
        arrays: {name: ndarray}; any name but "facts".
        facts: a dictionary that JSON can hold.

    Raises:
        OSError: the file can't be written; then what stood there before is untouched.
        ValueError: an array holds Python objects, or has the name "facts".
    """
    if FACTS in arrays or any(np.asarray(a).dtype.hasobject for a in arrays.values()):
        raise ValueError("a checkpoint holds arrays of numbers, and the name 'facts' is taken")
    text = json.dumps({"format": FORMAT, **(facts or {})})
    with replace(path) as file:
        np.savez(file, **arrays, **{FACTS: np.array(text)})


def load(path):
    """Read a checkpoint.

    Returns:
        (arrays, facts), as they were saved.

    Raises:
        UsageError: the file is missing, cut short, damaged, of a newer version, or no checkpoint at all.
    """
    try:
        with open(path, "rb") as raw:
            if not zipfile.is_zipfile(raw):  # NumPy would take it for a pickle, and advise to load that
                raise zipfile.BadZipFile("it is no archive of arrays")
            raw.seek(0)
            with np.load(raw, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        facts = json.loads(str(arrays.pop(FACTS)))
        version = facts.pop("format")
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; give the folder or file of a run") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}); check the path and its permissions") from None
    except Exception as error:  # a damaged byte can end anywhere in the readers of zip, .npy headers and JSON
        raise UsageError(f"{path} is not a checkpoint of minisnn, or it was cut short or damaged ({first_line(error)}); "
                         "train again, or restore a copy") from None
    if version != FORMAT:
        raise UsageError(f"{path} has format {version}, this minisnn reads format {FORMAT}; use the version that wrote it")
    return arrays, facts


def first_line(error):
    """An exception as a short text of one line."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:100]

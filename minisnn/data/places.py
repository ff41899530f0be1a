"""Where data and frames are kept on this machine. What a run's folder says about this is never followed: the folder may come
from elsewhere.
"""

import os
import tempfile

__all__ = ["data_folder", "cache_folder", "CACHE_OPTIONS", "CACHE_LIMIT", "NO_CACHE"]

CACHE_OPTIONS = ("cache", "cache_limit")  # arguments of ``data.load`` that belong to the machine, not to a run
CACHE_LIMIT = 4.0  # GB
NO_CACHE = "none"


def home() -> str | None:
    """The user's home folder; None if there is none, as in a container whose user is only a number."""
    found = os.path.expanduser("~")
    return found if os.path.isabs(found) else None


def data_folder(data_dir: str | None = None) -> str:
    """Where data is: ``data_dir``, else what the variable MINISNN_DATA says, else ~/.cache/minisnn, or without a home folder
    one among the temporary files.
    """
    told = data_dir or os.environ.get("MINISNN_DATA")
    if told:
        return os.path.expanduser(told)
    return os.path.join(home() or tempfile.gettempdir(), ".cache", "minisnn")


def cache_folder(cache: str | None = None) -> str | None:
    """Where frames are kept: ``cache``, else what the variable MINISNN_CACHE says ("none": nowhere, None), else
    ~/.cache/minisnn/frames, or nowhere without a home folder.
    """
    told = cache or os.environ.get("MINISNN_CACHE")
    if told == NO_CACHE or not (told or home()):
        return None
    return os.path.expanduser(told or os.path.join("~", ".cache", "minisnn", "frames"))

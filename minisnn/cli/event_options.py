"""The options of data sets of events, shared by the commands that load one."""

from ..catalogue import CATALOGUE, NAMES
from . import above_zero, path, whole

__all__ = ["add_event_arguments", "EVENT_OPTIONS"]

# By the names of the arguments of data.load
EVENT_OPTIONS = ("slicing", "frame_size", "window", "stride", "split_at", "skip_bad", "cache", "cache_limit")


def add_event_arguments(parser):
    """Add the group "events" to a command's options; what is not given stays None, for the data set's own default."""
    events = parser.add_argument_group(f"events ({', '.join(name for name in NAMES if CATALOGUE[name].events)})")
    events.add_argument("--slicing", choices=("count", "time"),
                        help="cut a recording into T slices of equally many events, or of equal time (default: count)")
    events.add_argument("--frame-size", type=whole(8), metavar="S",
                        help="add up pixels to frames of S x S (default: the sensor's size)")
    events.add_argument("--window", type=above_zero, metavar="MS",
                        help="cut recordings into samples of MS milliseconds (default: whole recordings)")
    events.add_argument("--stride", type=above_zero, metavar="MS",
                        help="from one window's start to the next (default: half a window)")
    events.add_argument("--split-at", type=above_zero, metavar="MS",
                        help="train on the windows before MS of each recording, test on those behind (default: the official "
                             "split, or one recording in ten held out)")
    events.add_argument("--skip-bad", action="store_true", default=None,
                        help="leave out recordings that cannot be used, and count them")
    events.add_argument("--cache", type=path, metavar="DIR",
                        help="where frames are kept, 'none' for nowhere (default: the variable MINISNN_CACHE, else "
                             "~/.cache/minisnn/frames)")
    events.add_argument("--cache-limit", type=above_zero, metavar="GB", help="most that the folder may take (default: 4)")
    return events

"""`python -m minisnn` is `minisnn`: both start here, so that Ctrl-C prints one line even while the program loads or ends."""

import sys

from . import stopping


def main() -> int:
    """Run the command line as the whole of this process; returns the exit status."""
    stopping.begin()
    try:
        from .cli import main as run

        return run()
    except stopping.Stopped as stop:
        print("minisnn: stopped", file=sys.stderr)
        return stop.status
    finally:
        stopping.end()


if __name__ == "__main__":
    sys.exit(main())

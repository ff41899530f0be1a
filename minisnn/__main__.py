"""`python -m minisnn` is `minisnn`: both begin here, so that Ctrl-C is one line even while the program loads or ends."""

import sys

from . import stopping


def main() -> int:
    """Run the command line as all that this process does; returns the exit status."""
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

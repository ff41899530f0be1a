"""`python -m minisnn` is `minisnn`: both begin here, so that Ctrl-C is one line while the program still loads, too."""

import sys


def main() -> int:
    """Run the command line; returns the exit status."""
    try:
        from .cli import main
    except KeyboardInterrupt:
        print("minisnn: stopped", file=sys.stderr)
        return 130
    return main()


if __name__ == "__main__":
    sys.exit(main())

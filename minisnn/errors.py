"""The one error that the command line turns into a line on standard error and exit status 2."""


class UsageError(Exception):
    """Input that cannot be used. The text is one line: what is wrong, by name, and how to fix it."""

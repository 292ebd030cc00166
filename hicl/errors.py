"""The one exception that reaches a user: a single line that names the file, what is wrong, and the way out."""


class HiclError(Exception):
    """Something the user can mend. Its message is printed as it is, without a traceback, and the exit code is 1."""


class FrameError(HiclError):
    """One frame can't be used. The scene goes on without it and counts it."""

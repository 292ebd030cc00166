"""The one exception that reaches a user: a single line that names the file, what is wrong, and the way out."""

_MOST = 1000  # characters; a library's words may quote a whole file


class HiclError(Exception):
    """Something the user can mend. Its message is printed as it is, without a traceback, and the exit code is 1.

    It may quote what others made: what would break the line, or steer a terminal, stands there as a question mark, and
    what is too long to be read is cut in its middle, as the file stands at the start and the way out at the end.
    """

    def __init__(self, message: str):
        message = message if message.isprintable() else "".join(c if c.isprintable() else "?" for c in message)
        cut = len(message) > _MOST
        super().__init__(f"{message[: _MOST // 2]} … {message[-_MOST // 2 :]}" if cut else message)


class FrameError(HiclError):
    """One frame can't be used. The scene goes on without it and counts it."""

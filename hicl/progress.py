"""How far a long work is: a bar on a terminal, elsewhere a line every half minute."""

import sys
import threading
import time

FIRST_S, EVERY_S = 5.0, 30.0


def counted(number: int, unit: str) -> str:
    """1 scene, 2 scenes, 1,200 scenes."""
    return f"{number:,} {unit}{'s' * (number != 1)}"


class Progress:
    """A context manager. What ends before `FIRST_S` seconds says nothing where the output is no terminal.

    title: what is done, and note: what else there is to say, as the loss; both may be set anew at any time.
    unit: of `total` and `done`, in the singular.
    """

    def __init__(self, title: str, total: int, unit: str, done: int = 0, show: bool = True):
        self.title, self.total, self.unit, self.done, self.note = title, total, unit, done, ""
        self._began, self._first = time.monotonic(), done
        self._bar, self._over = None, threading.Event()
        if show and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, desc=title, unit=unit, smoothing=0.05)
        elif show:
            threading.Thread(target=self._tell, daemon=True).start()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._bar is not None:
            self._bar.close()

    def update(self, n: int = 1) -> None:
        """So many units more are done."""
        self.done += n
        if self._bar is not None:
            self._bar.set_description_str(self.title, refresh=False)
            self._bar.set_postfix_str(self.note, refresh=False)
            self._bar.update(n)

    def line(self) -> str:
        """How far it is: what, how much of it, for how long, how long still, and the note."""
        past = time.monotonic() - self._began
        text = f"{self.title}: {self.done:,} of {counted(self.total, self.unit)}"
        if self.total:
            text += f" ({100 * self.done / self.total:.0f} %)"
        text += f" after {_clock(past)}"
        fresh = self.done - self._first
        if 0 < fresh and self.done < self.total:
            text += f", about {_clock(past / fresh * (self.total - self.done))} left"
        return f"{text}; {self.note}" if self.note else text

    def _tell(self) -> None:
        # By the clock, and not by `update`: one unit may take longer than half a minute.
        wait = FIRST_S
        while not self._over.wait(wait):
            wait = EVERY_S
            print(self.line(), file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"

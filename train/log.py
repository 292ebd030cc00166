"""What a run shows and writes about itself: its progress, `log.csv`, TensorBoard scalars."""

import csv
import io
import math
from pathlib import Path
from typing import Any

from hicl.errors import HiclError
from hicl.progress import Progress
from hicl.read import read_bytes
from hicl.train.run_folder import replace_text

_BEFORE, _BEHIND = ("epoch", "step"), ("lr", "head_lr", "steps_per_s", "points_per_s", "wait_share", "miou")
_NO_LOSS = ("points", "wait", "busy")


class Log:
    """A row an epoch: means of the losses (unweighted), rates, throughput, share of time waiting for data, mIoU.

    Args:
        run: the run's folder.
        title: what the progress is of.
        steps: of the whole run; `first` of them are done.
        state: of the run that this one continues, from `state()`.
        leads: whether this process writes anything; show: whether it may show its progress.
    """

    def __init__(self, run: Path, title: str, steps: int, first: int, state: dict | None, leads: bool, show: bool):
        self.run, self.leads = run, leads
        self.rows: list[dict] = list(state["rows"]) if state else []
        self.sums: dict[str, list[float]] = dict(state["sums"]) if state else {}
        self.progress = Progress(title, steps, "step", first, leads and show)
        self.board = _tensorboard(run / "tensorboard", first + 1) if leads else None

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.__exit__()
        if self.board:
            self.board.close()

    def step(
        self, step: int, values: dict[str, float], rates: tuple[float, float], points: int, wait: float, busy: float
    ) -> None:
        """Note one step: its losses, learning rates, points of all processes, seconds waiting for data and working."""
        numbers = values | {"points": points, "wait": wait, "busy": busy}
        for name, value in numbers.items():
            total = self.sums.setdefault(name, [0.0, 0])
            total[0] += value
            total[1] += 1
        shown = values | {"lr": rates[0]}
        self.progress.note = " ".join(f"{name} {value:.3f}" for name, value in shown.items())
        self.progress.update()
        if self.board:
            for name, value in values.items():
                self.board.add_scalar(f"loss/{name}", value, step)
            self.board.add_scalar("rate/net", rates[0], step)
            self.board.add_scalar("rate/heads", rates[1], step)
            self.board.add_scalar("speed/points_per_s", points / (wait + busy), step)
            self.board.add_scalar("speed/wait_share", wait / (wait + busy), step)

    def epoch(self, epoch: int, step: int, rates: tuple[float, float], miou: float | None) -> None:
        """Close an epoch (counted from 1): its row goes to `log.csv`; miou in 0..1."""
        count = self.sums["wait"][1]
        wait, busy, points = (self.sums[name][0] for name in ("wait", "busy", "points"))
        row = {"epoch": epoch, "step": step, "lr": rates[0], "head_lr": rates[1]}
        row |= {name: total / n for name, (total, n) in self.sums.items() if name not in _NO_LOSS}
        row |= {
            "steps_per_s": count / (wait + busy),
            "points_per_s": points / (wait + busy),
            "wait_share": wait / (wait + busy),
        }
        if miou is not None:
            row["miou"] = 100 * miou
            if self.board:
                self.board.add_scalar("val/miou", 100 * miou, step)
        self.rows.append(row)
        self.sums = {}
        if self.leads:
            text = io.StringIO()
            losses = dict.fromkeys(name for row in self.rows for name in row if name not in _BEFORE + _BEHIND)
            columns = [*_BEFORE, *losses, *_BEHIND]
            writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows({k: f"{v:.6g}" for k, v in row.items()} for row in self.rows)
            replace_text(self.run / "log.csv", text.getvalue())

    def state(self) -> dict:
        """All that a continued run needs to write the same log."""
        return {"rows": self.rows, "sums": self.sums}


def read_log(run: Path) -> list[dict[str, float]]:
    """The rows of a run's `log.csv`, without what is empty. Raises `HiclError` if there is none, or it is damaged."""
    path = Path(run) / "log.csv"
    try:
        rows = list(csv.DictReader(io.StringIO(read_bytes(path).decode("utf-8"), newline="")))
        found = [{key: float(value) for key, value in row.items() if value} for row in rows]
        if not found or not all({"epoch", "step", "steps_per_s"} <= set(row) for row in found):
            raise ValueError("rows without epoch, step or steps_per_s")
        if not all(math.isfinite(value) for row in found for value in row.values()):
            raise ValueError("numbers that are not finite")
    except FileNotFoundError:
        raise HiclError(f"{path}: no such log") from None
    except (csv.Error, ValueError, TypeError) as error:
        raise HiclError(f"{path}: not the log of a run ({error})") from None
    return found


def minutes(run: Path) -> float:
    """Time of a run's training steps, from its log: counts right over --resume."""
    rows = read_log(run)
    if not all(row["steps_per_s"] > 0 for row in rows):
        raise HiclError(f"{run / 'log.csv'}: steps_per_s of 0 or less")
    return sum(rows[0]["step"] / row["steps_per_s"] for row in rows) / 60


def _tensorboard(folder: Path, first: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # it is an extra: log.csv holds the same numbers by epoch
        return None
    return SummaryWriter(str(folder), purge_step=first)

"""What a check found."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Verdict:
    """check: its name. state: "well"; "remark", something to know; "fault", likely wrong; "open", can't be told from
    these frames. said: the figure in words. figure: the figure. remedy: what mends it. readings: how well other
    readings fit, by their remedies, where some were tried.
    """

    check: str
    state: str
    said: str
    figure: float | None = None
    remedy: str = ""
    readings: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.check}: {self.said}" + (f"; {self.remedy}" if self.remedy else "")


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"

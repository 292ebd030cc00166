import sys
import time

from hicl import progress
from hicl.progress import Progress, counted


def test_lines_come_by_the_clock_and_not_at_all_for_short_work(monkeypatch, capsys):
    monkeypatch.setattr(progress, "FIRST_S", 0.05)
    monkeypatch.setattr(progress, "EVERY_S", 0.1)
    with Progress("a", 10, "step"):
        pass
    time.sleep(0.1)
    assert capsys.readouterr().err == ""
    with Progress("experiment V", 10, "step", done=2) as bar:
        bar.update()
        bar.note = "ce 1.5"
        time.sleep(0.4)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 4
    assert lines[0].startswith("experiment V: 3 of 10 steps (30 %) after 0:00, about 0:0")
    assert lines[0].endswith("left; ce 1.5")
    with Progress("silent", 10, "step", show=False):
        time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_what_is_left_is_told_by_what_this_run_did(monkeypatch):
    """30 of 100 frames were there before; 20 more took 40 s, so the other 50 take 100 s."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with Progress("frames", 100, "frame", done=30, show=False) as bar:
        bar.update(20)
        now = 40.0
        assert bar.line() == "frames: 50 of 100 frames (50 %) after 0:40, about 1:40 left"
        now = 3700.0
        bar.update(50)
        assert bar.line() == "frames: 100 of 100 frames (100 %) after 1:01:40"


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress("rooms", 3, "room") as bar:
        bar.note = "ce 0.5"
        bar.update(3)
    shown = capsys.readouterr().err
    assert "rooms: 100%" in shown and "3/3" in shown


def test_one_is_no_plural():
    assert [counted(n, "scene") for n in (0, 1, 2, 1200)] == ["0 scenes", "1 scene", "2 scenes", "1,200 scenes"]
    assert Progress("a", 1, "room", show=False).line().startswith("a: 0 of 1 room (0 %)")

"""What writes files: whole, one at a time, and nothing of a killed or failed attempt stays."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from hicl.errors import HiclError
from hicl.files import locked, naming, part_of, replacing, workplace

_HOLD = "import sys, time, pathlib; from hicl import files\nwith files.{}(pathlib.Path(sys.argv[1])) as here:\n    {}\n"


def killed_at_it(what: str, path, then: str = "pass") -> None:
    """Have a process hold `path`, and kill it there."""
    code = _HOLD.format(what, f"{then}; print('held', flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        process.send_signal(signal.SIGKILL)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_write_left_goes_with_the_next(tmp_path):
    target = tmp_path / "a.png"
    target.write_text("old")
    killed_at_it("replacing", target, "here.write_text('half')")
    assert target.read_text() == "old" and names(tmp_path) == [part_of(target).name, "a.png"]
    with replacing(target) as temporary:
        assert temporary.suffix == ".png"
        temporary.write_text("new")
    assert target.read_text() == "new" and names(tmp_path) == ["a.png"]


def test_two_that_write_one_file_take_turns(tmp_path):
    """Each text is written in two halves: mixed ones would show."""

    def write(letter: str) -> None:
        for _ in range(20):
            with replacing(tmp_path / "a") as temporary, temporary.open("w") as file:
                for _ in range(2):
                    file.write(letter * 1000)
                    file.flush()

    threads = [threading.Thread(target=write, args=[letter]) for letter in "abcd"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if (tmp_path / "a").exists():
            text = (tmp_path / "a").read_text()
            assert len(text) == 2000 and len(set(text)) == 1
        time.sleep(0.001)
    assert names(tmp_path) == ["a"]


def test_a_link_in_the_way_leads_nowhere(tmp_path):
    (tmp_path / "other").write_text("mine")
    part_of(tmp_path / "a").symlink_to(tmp_path / "other")
    with replacing(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "other").read_text() == "mine" and names(tmp_path) == ["a", "other"]


def test_what_is_no_regular_file_stays(tmp_path):
    """As root, /dev/null would be replaced too."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "link", "folder"):
        with pytest.raises(HiclError, match=f"{name}: is there and no regular file"), replacing(tmp_path / name):
            pass
    assert names(tmp_path) == ["folder", "link", "pipe"]
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "link").is_symlink() and (tmp_path / "folder").is_dir()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), OSError("10 asked, 3 written")])
def test_a_write_that_fails_names_the_file_and_leaves_nothing(tmp_path, error):
    with pytest.raises(OSError) as raised, replacing(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise error
    assert raised.value.filename == str(tmp_path / "a") and names(tmp_path) == []
    with pytest.raises(FileNotFoundError) as raised, naming(tmp_path):
        (tmp_path / "none").read_text()
    assert raised.value.filename == str(tmp_path / "none")


def test_a_folder_has_one_writer_and_a_killed_one_none(tmp_path, monkeypatch):
    monkeypatch.setattr("hicl.files._PATIENCE_S", 0.1)
    run = tmp_path / "runs" / "V"
    with locked(run), pytest.raises(HiclError, match="V: another hicl is writing to it"), locked(run):
        pass
    killed_at_it("locked", run)
    with locked(run):
        assert names(run) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(HiclError, match="file: no folder to write to"), locked(tmp_path / "file"):
        pass


def test_a_workplace_of_the_dead_goes_and_one_of_the_living_stays(tmp_path):
    killed_at_it("workplace", tmp_path, "(here / 'half').write_text('half')")
    assert len(names(tmp_path)) == 1
    with workplace(tmp_path) as first:
        (first / "mine").write_text("mine")
        with workplace(tmp_path) as second:
            assert names(tmp_path) == sorted([first.name, second.name])
        assert (first / "mine").read_text() == "mine"
    assert names(tmp_path) == []

"""Every `sh` and `python` block of README.md and docs/*.md, run in a fresh clone in the order in which they stand.

A block that can't run here says so behind its language (```sh needs=scannet); its `hicl` lines are only parsed, so
that a renamed option shows. The others run as they stand, but smaller: `make` has few rooms and an epoch (SCENES and
EPOCHS of the Makefile), collects the tests but doesn't run them, and installs by a UV that does nothing; `--epochs N`
is 1; a teacher that would be downloaded is the miniature's; a page for a browser goes to a file. `my-scan` is a room of
the miniature as posed RGB-D frames, `scan.ply` its mesh.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import typer
from PIL import Image

from hicl.commands import app
from hicl.errors import FrameError
from hicl.pipeline.datasets import scannet

ROOT = Path(__file__).parent.parent
NEEDS = ("scannet", "nuscenes", "weights", "machines", "runs")
IN_LITTLE = {
    r"--epochs \d+": "--epochs 1",
    r"hicl scan (?!.*--(clip|weights|teacher))": "hicl scan --clip hicl-miniature --weights hicl-miniature ",
    r"hicl preprocess rgbd (?!.*--(clip|weights|teacher))": "hicl preprocess rgbd --clip hicl-miniature "
    "--weights hicl-miniature ",
    r"hicl view (?!.*--out)": "hicl view --out view.html ",
}
SMALL = {"SCENES": "4", "EPOCHS": "1", "JOBS": "1", "PYTEST_ADDOPTS": "--collect-only", "UV": "true"}


class Block(NamedTuple):
    place: str
    language: str
    needs: str
    code: str


def blocks(name: str, text: str) -> list[Block]:
    """The fenced `sh` and `python` blocks of a Markdown file."""
    found = re.finditer(r"^```(sh|python)\b[ \t]*(?:needs=(\S*))?([^\n]*)\n(.*?)^```$", text, re.M | re.S)
    made = []
    for match in found:
        place = f"{name}:{text[: match.start()].count(chr(10)) + 1}"
        assert not match[3].strip() and (match[2] is None or match[2] in NEEDS), f"{place}: what is {match[0][:40]!r}?"
        made.append(Block(place, match[1], match[2] or "", match[4]))
    return made


FILES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCKS = [block for file in FILES for block in blocks(file.name, file.read_text(encoding="utf-8"))]


def in_little(code: str) -> str:
    for pattern, small in IN_LITTLE.items():
        code = re.sub(pattern, small, code)
    return code


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """The files that git has, in a folder of their own, with a `.venv` that runs them on the packages of this one."""
    clone = tmp_path_factory.mktemp("readme") / "hicl"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, clone / name)
    for compiled in (*ROOT.glob("*/__pycache__"), *ROOT.glob("pipeline/*/__pycache__")):  # half a minute of kernels
        shutil.copytree(compiled, clone / compiled.relative_to(ROOT))
    venv.create(clone / ".venv", symlinks=True)
    packages = next((clone / ".venv/lib").glob("*/site-packages"))
    (packages / "borrowed.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    for file in Path(find_spec("__editable___hicl_0_1_0_finder").origin).parent.glob("__editable__*hicl*"):
        (packages / file.name).write_text(file.read_text().replace(str(ROOT), str(clone)))  # as `make` installs it
    command = clone / ".venv/bin/hicl"
    command.write_text(
        f'#!{clone}/.venv/bin/python\nfrom hicl.commands import main\n\nif __name__ == "__main__":\n    main()\n'
    )
    command.chmod(0o755)
    return clone


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    """A room of the miniature: its mesh, and its first frames in the 7-Scenes naming."""
    from hicl.pipeline.miniature.scan import write_dataset

    folder = tmp_path_factory.mktemp("scan")
    write_dataset(folder / "rooms", 1, 5, workers=1, progress=lambda _: None)
    ((room, _),), _ = scannet.find_scenes(folder / "rooms", None, None)
    shutil.copy(next((folder / "rooms").rglob("*_vh_clean_2.ply")), folder / "scan.ply")
    frames = folder / "my-scan"
    frames.mkdir()
    camera = room.color_camera
    matrix = [[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]]
    np.savetxt(frames / "camera-intrinsics.txt", matrix)
    for i, frame in islice(readable(room), 8):
        Image.fromarray(frame.color).save(frames / f"frame-{i:06d}.color.jpg")
        Image.fromarray(np.round(frame.depth * 1000).astype(np.uint16)).save(frames / f"frame-{i:06d}.depth.png")
        np.savetxt(frames / f"frame-{i:06d}.pose.txt", frame.pose)
    return folder


def readable(room):
    for i in room.frame_ids.tolist():
        try:
            yield i, room.frame(i)
        except FrameError:  # the scanner lost track
            continue


@pytest.mark.parametrize("block", BLOCKS, ids=[block.place for block in BLOCKS])
def test_a_block_runs_as_it_stands(block, clone, scan):
    if block.needs:
        for line in re.sub(r"\\\n", " ", block.code).splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0].endswith("bin/hicl"):
                parse(words[1:])
        return
    for name in ("scan.ply", "my-scan"):
        if name in block.code and not (clone / name).exists():
            (clone / name).symlink_to(scan / name)
    command = ["sh", "-ex"] if block.language == "sh" else [clone / ".venv/bin/python", "-"]
    surroundings = os.environ | SMALL | {"PYTHON": sys.executable, "HF_HUB_OFFLINE": "1"}
    surroundings.pop("MAKEFLAGS", None)  # of the make that runs this
    result = subprocess.run(
        command, input=in_little(block.code), cwd=clone, env=surroundings, capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, f"{block.place}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"


def parse(words: list[str]) -> None:
    """Raise if `hicl` knows no such command or options. Nothing runs."""
    command, name = typer.main.get_command(app), "hicl"
    while hasattr(command, "get_command"):
        name, *words = words
        command = command.get_command(typer.Context(command), name)
        assert command is not None, f"no command {name}"
    command.make_context(name, list(words))


def test_a_wrong_block_shows():
    for wrong in (["preprocess", "scannet", "--rooot", "x", "--out", "y"], ["preprocess", "skannet"]):
        with pytest.raises(Exception, match="rooot|skannet"):
            parse(wrong)
    with pytest.raises(AssertionError, match="what is"):
        blocks("x.md", "```sh needs=luck\ntrue\n```\n")


def test_the_checkouts_own_cache_folder_is_no_cache(clone, scan):
    command = [clone / ".venv/bin/hicl", "preprocess", "miniature", "--root", scan / "rooms", "--out", "cache"]
    result = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and "cache: not a cache but holds SPEC.md; give --out a new folder" in result.stderr
    assert len(result.stderr.splitlines()) == 1

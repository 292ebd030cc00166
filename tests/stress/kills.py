"""Kill commands at random moments, again and again, and compare what is there in the end with an undisturbed run's.

    python tests/stress/kills.py --seed 1 --kills preprocess-1=100 preprocess-2=100 train=100 predict=30 export=30

A command that was killed is started again where it was, until it ends; then all bytes must be the undisturbed run's,
and no file more; then it begins anew, until so many were killed alive. One in ten is started as a user does, the others
are forked from this process, which has loaded the libraries: the same code, from its first line on, without the seconds
that imports take.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
TINY = """experiment = "V"
[stream]
voxel_size = 0.15
workers = 0
[model]
stem = 4
planes = [4, 4, 4, 4, 4, 4, 4, 4]
[heads]
tokens = 16
[schedule]
epochs = 2
batch = 2
[optim]
save_every = 1
"""
TIMED = ("tensorboard", "log.csv")  # hold when and how fast


def start(words: list[str], log: Path, forked: bool) -> int:
    """Run `hicl` with some words in a process of its own group; its id."""
    if not forked:
        with log.open("ab") as file:
            command = [sys.executable, "-m", "hicl", *words]
            return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True).pid
    process = os.fork()
    if process:
        return process
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = ["hicl", *words]
    code = 1
    try:
        from hicl import commands

        commands.main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        os._exit(code)


def ended(process: int, limit: float) -> int | None:
    """Its exit code; None where it still runs after so many seconds."""
    until = time.monotonic() + limit
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(0.002)


def tree(folder: Path) -> dict[str, bytes]:
    """Bytes of every file, and the names of those that hold times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name.split("/")[0] != "tensorboard" and name.split("/")[-1] != "tensorboard":
            found[name] = b"" if path.is_dir() or path.name in TIMED else path.read_bytes()
    return found


def attempt(kind: str, words: list[str], out: Path, log: Path, forked: bool, limit: float) -> int | None:
    """Start a command where it was; its exit code, or None where it was killed at its work."""
    resume = ["--resume"] if kind == "train" and (out / "config.toml").exists() else []
    process = start([*words, *resume], log, forked)
    code = ended(process, limit)
    if code is None:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        return None
    if code and resume and "holds a finished run" in log.read_text().splitlines()[-1]:
        return 0  # killed when its model was written
    return code


def torment(kind: str, command, kills: int, dice: random.Random, work: Path) -> tuple[int, int]:
    """(kills, runs that came to their end) of a command; raises AssertionError where one left something else."""
    log = work / f"{kind}.log"
    whole = work / f"{kind}-undisturbed"
    attempt(kind, command(whole), whole, log, True, 600)  # warms up
    shutil.rmtree(whole)
    began = time.monotonic()
    assert attempt(kind, command(whole), whole, log, True, 600) == 0, log.read_text()[-2000:]
    life, expected = time.monotonic() - began, tree(whole)
    print(f"{kind}: {life:.1f} s undisturbed, {len(expected)} files and folders", flush=True)
    out, killed, runs = work / f"{kind}-killed", 0, 0
    while killed < kills or out.exists():
        forked = dice.random() > 0.1
        limit = dice.uniform(0, life if forked else life + 5) if killed < kills else 600
        code = attempt(kind, command(out), out, log, forked, limit)
        if code is None:
            killed += 1
            if killed % 10 == 0:
                print(f"{kind}: {killed} killed, {runs} runs to their end", flush=True)
            continue
        assert code == 0, log.read_text()[-2000:]
        found = tree(out)
        assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())
        assert found == expected, [name for name in found if found[name] != expected[name]]
        shutil.rmtree(out)
        runs += 1
    return killed, runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", nargs="+", required=True, metavar="COMMAND=N")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    wanted = {kind: int(count) for kind, count in (word.split("=") for word in options.kills)}
    os.environ["OMP_NUM_THREADS"] = "1"
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kills-")))
        commands = prepared(work, set(wanted))
        for kind, kills in wanted.items():
            killed, runs = torment(kind, commands[kind], kills, random.Random(f"{options.seed}/{kind}"), work)
            print(f"{kind}: seed {options.seed}: {killed} killed, {runs} runs to their end, all the same", flush=True)


def prepared(work: Path, kinds: set[str]) -> dict:
    """By name a function from where the output goes to the words of a command; what those in `kinds` read is made."""
    sys.path.insert(0, str(TESTS / "train"))
    from synthetic_rooms import make_cache

    from hicl import commands, export  # noqa: F401

    if kinds & {"preprocess-1", "preprocess-2"}:
        from hicl.pipeline import job, run, stages, warmup  # noqa: F401
        from hicl.pipeline.teacher import clip  # noqa: F401
    if kinds & {"train", "predict"}:
        from hicl import predict  # noqa: F401
        from hicl.train import loop  # noqa: F401

    log, rooms, cache, model = work / "log", work / "rooms", work / "cache", work / "model"
    (work / "tiny.toml").write_text(TINY)
    make_cache(cache, n_points=500, width=8)
    if kinds - {"export", "train"}:
        assert ended(start(["miniature", "--scenes", "2", "--seed", "3", "--out", str(rooms)], log, True), 600) == 0
    train = ["train", "--cache", str(cache), "--config", str(work / "tiny.toml"), "--device", "cpu", "--out"]
    if "predict" in kinds:
        assert ended(start([*train, str(model)], log, True), 600) == 0, log.read_text()
    scan = rooms / "scans/scene0000_00/scene0000_00_vh_clean_2.ply"
    preprocess = ["preprocess", "miniature", "--root", str(rooms), "--workers"]
    return {
        "preprocess-1": lambda out: [*preprocess, "1", "--out", str(out)],
        "preprocess-2": lambda out: [*preprocess, "2", "--out", str(out)],
        "train": lambda out: [*train, str(out)],
        "predict": lambda out: ["predict", str(scan), "--model", str(model), "-o", str(out / "scan.ply")],
        "export": lambda out: ["export", "--cache", str(cache), "--out", str(out / "scene.ply")],
    }


if __name__ == "__main__":
    main()

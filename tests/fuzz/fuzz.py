"""Mutated inputs over everything that reads what others made: each must end in a right result or in one line.

    python tests/fuzz/fuzz.py --cases 20000 --seed 0             all readers
    python tests/fuzz/fuzz.py --reader cache --case 1234 --seed 0    one case again, with its traceback

A case is drawn from (seed, reader, its number) alone. Cases run in child processes, so that a crash is seen and put
down to its case; each may take 10 seconds and half a gigabyte.
"""

import argparse
import collections
import contextlib
import json
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from pathlib import Path

import numpy as np
from readers import READERS, mutation, one_line

from hicl.errors import HiclError

SECONDS, MEMORY = 10, 1 << 29
BATCH = 1000


class Hang(BaseException):
    pass


def _hang(*_):
    raise Hang


def _same(a, b) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return (
            isinstance(a, np.ndarray)
            and isinstance(b, np.ndarray)
            and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        )
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return a == b


class Bench:
    """One reader's sound input, and a place for damaged ones."""

    def __init__(self, name: str, folder: Path):
        self.name, self.reader = name, READERS[name]
        self.sound, self.work = folder / "sound", folder / "work"
        self.sound.mkdir(parents=True)
        self.reader.make(self.sound)
        files = sorted(str(path.relative_to(self.sound)) for path in self.sound.rglob("*") if path.is_file())
        self.files = [file for file in files if mutation(self.reader, file)]
        self.expected = self.reader.read(self.sound)

    def case(self, seed: int, number: int) -> tuple[str, str]:
        """(how a case ended, what it was): same, other, refused, or a fault."""
        rng = np.random.default_rng([seed, zlib.crc32(self.name.encode()), number])
        file = self.files[rng.integers(len(self.files))]
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.sound, self.work)
        before = (self.sound / file).read_bytes()
        content = mutation(self.reader, file)(before, rng)
        (self.work / file).write_bytes(content)
        peak, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        try:
            signal.alarm(SECONDS)
            try:
                found = self.reader.read(self.work)
            finally:
                signal.alarm(0)
            end = "same" if _same(found, self.expected) else "other"
            if end == "other" and self.reader.checked(file):
                end = "fault: changed unseen"
        except HiclError as error:
            end = (
                "refused"
                if one_line(error)
                else f"fault: message of {len(str(error))} characters: {str(error)[:300]!r}"
            )
        except Hang:
            end = "fault: hang"
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            text = str(error).splitlines()[:1]
            end = f"fault: {type(error).__name__} {text} at {Path(place.filename).name}:{place.lineno}"
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
        if grown > MEMORY:
            end = f"fault: {grown >> 20} MiB"
        if time.perf_counter() - start > SECONDS:
            end = "fault: hang"
        return end, file


def child(name: str, seed: int, first: int, last: int, journal: Path) -> None:
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _hang)
    with tempfile.TemporaryDirectory() as folder, open(journal, "a") as log:
        bench = Bench(name, Path(folder))
        bench.case(seed, first)  # imports and kernels are paid for
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + 2 * MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        for number in range(first, last):
            print(json.dumps(["begun", number]), file=log, flush=True)
            print(json.dumps([*bench.case(seed, number), number]), file=log, flush=True)


def batch(name: str, seed: int, first: int, last: int) -> list:
    """Results of cases; a child that dies is a fault of the case that it had begun, and another goes on after it."""
    results = []
    while first < last:
        with tempfile.TemporaryDirectory() as folder:
            journal = Path(folder) / "journal"
            journal.touch()
            command = [sys.executable, __file__, "--child", name, str(seed), str(first), str(last), str(journal)]
            with contextlib.suppress(subprocess.TimeoutExpired):
                done = subprocess.run(command, capture_output=True, text=True, timeout=120 + SECONDS + (last - first))
            lines = [json.loads(line) for line in journal.read_text().splitlines()]
        results += [line for line in lines if len(line) == 3]
        begun = [line[1] for line in lines if line[0] == "begun"]
        finished = {line[2] for line in lines if len(line) == 3}
        if not begun:
            raise SystemExit(f"{name}: the sound input isn't read:\n{done.stderr}")
        if begun[-1] not in finished:
            results.append([f"fault: the process ended by {done.returncode}", "?", begun[-1]])
        first = begun[-1] + 1
    return results


def fuzz(cases: int, seed: int, names: list[str], say=print) -> list[tuple[str, list]]:
    """The faults of so many cases, as (reader, [how it ended, file, number])."""
    total, faults = sum(READERS[name].weight for name in names), []
    for name in names:
        count = round(cases * READERS[name].weight / total)
        results = []
        for first in range(0, count, BATCH):
            results += batch(name, seed, first, min(first + BATCH, count))
        ends = collections.Counter(end.split(":")[0] for end, _, _ in results)
        say(f"{name:<12}{len(results):>7} " + ", ".join(f"{ends[end]} {end}" for end in sorted(ends)))
        for end, file, number in results:
            if end.startswith("fault"):
                say(f"    --reader {name!r} --case {number}: {file}: {end}")
                faults.append((name, [end, file, number]))
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", action="append", choices=READERS)
    parser.add_argument("--case", type=int, help="only this one of a reader, in this process")
    parser.add_argument("--child", nargs=5)
    options = parser.parse_args()
    if options.child:
        name, *numbers, journal = options.child
        return child(name, *map(int, numbers), Path(journal))
    names = options.reader or list(READERS)
    if options.case is not None:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(names[0], Path(folder))
            print(*bench.case(options.seed, options.case))
            print(bench.reader.read(bench.work))
        return None
    start = time.perf_counter()
    faults = fuzz(options.cases, options.seed, names)
    print(f"{options.cases} cases, seed {options.seed}: {len(faults)} faults; {time.perf_counter() - start:.0f} s")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
